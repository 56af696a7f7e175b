fn main() {
    loop_provider_build::Wit::new("wit").write();
}
