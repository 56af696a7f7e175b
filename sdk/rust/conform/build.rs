fn main() {
    loop_provider_build::Wit::new("../../../python/loop_kit/conform/wit").write();
}
