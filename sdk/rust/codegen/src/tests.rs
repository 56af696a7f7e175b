use super::*;

fn rust_of(wit: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    std::fs::write(folder.path().join("a.wit"), wit).map_err(|e| e.to_string())?;
    Wit::new(folder.path()).rust()
}

/// What stands in the text, whatever the spaces.
fn has(text: &str, wanted: &str) -> bool {
    let tight = |s: &str| s.split_whitespace().collect::<String>();
    tight(text).contains(&tight(wanted))
}

#[test]
fn names_are_those_of_rust() {
    let text = rust_of(
        "package a:b@0.1.0; interface some-types {
           record entry-point { %type: u8, self-made: option<list<string>>, %self: bool }
           enum dark-color { very-dark }
           do-it: func(match: entry-point, call: dark-color) -> tuple<u8, s64>;
         }",
    )
    .expect("it is sound");
    for wanted in [
        "pub mod some_types {",
        "pub struct EntryPoint { pub r#type: u8, pub self_made: Option<p::Vec<String>>, pub self_: bool, }",
        "pub enum DarkColor { VeryDark, }",
        "fn do_it(&self, call: p::Call, r#match: super::some_types::EntryPoint, call_: super::some_types::DarkColor)",
        "Output = Result<(u8,i64,), p::Failure>",
    ] {
        assert!(has(&text, wanted), "{wanted} in\n{text}");
    }
}

#[test]
fn types_of_other_interfaces_and_packages_are_theirs() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        std::fs::write(path, text).expect("it can be written");
    };
    write(
        "main.wit",
        "package a:b; interface api { use other:kit/types@1.0.0.{id}; use types.{name}; \
         get: func(id: id) -> name; } interface types { type name = string; }",
    );
    write(
        "deps/kit/kit.wit",
        "package other:kit@1.0.0; interface types { record id { n: u32 } }",
    );
    let text = Wit::new(folder.path())
        .interface("a:b/api")
        .rust()
        .expect("it is sound");
    // both are called `types`
    assert!(has(&text, "pub mod other_kit_types_1_0_0 {"), "{text}");
    assert!(
        has(&text, "pub type Id = super::other_kit_types_1_0_0::Id;"),
        "{text}"
    );
    assert!(
        has(
            &text,
            "fn get(&self, call: p::Call, id: super::other_kit_types_1_0_0::Id)"
        ),
        "{text}"
    );
    let missing = Wit::new(folder.path()).interface("a:b/nothing").rust();
    assert_eq!(
        missing.expect_err("it is not there"),
        "there is no interface a:b/nothing; there are other:kit/types@1.0.0, a:b/types, a:b/api"
    );
}

#[test]
fn the_digest_is_that_of_the_other_sdks() {
    let mut resolve = Resolve::default();
    let wit = "package a:b; interface c { type t = u8; b: func(x: t); a: async func() -> string; }";
    resolve.push_str("c.wit", wit).expect("it is sound");
    let id = find(&resolve, "a:b/c").expect("it is there");
    let hex = |name: &str| -> String {
        let function = &resolve.interfaces[id].functions[name];
        let digest = shape::digest(&resolve, function);
        digest.iter().map(|b| format!("{b:02x}")).collect()
    };
    // the same stands in sdk/node/test/wit.test.js
    assert_eq!(
        [hex("a"), hex("b")],
        [
            "a56ab2a50937b548ca732b43fa4884da36f6e36b1ef0bfd27beabfa333b46a70",
            "c8a29ff9af2fe74ea4e50697c3453bcea431a8357b1cf9fd915071666087192a"
        ]
    );
}

#[test]
fn what_rust_has_not_is_said_with_its_place() {
    for (wit, wanted) in [
        ("package a:b; interface c {", "found eof"),
        ("package a:b; world w {}", "there is no interface to serve"),
        (
            "package a:b; interface c { f: func() -> tuple<u8, u8, u8, u8, u8, u8, u8, u8, u8>; }",
            "a:b/c: a tuple of 9 items: at most 8 have a type in Rust here; make it a record",
        ),
        (
            "package a:b; interface c { record provider { a: u8 } }",
            "a:b/c: no type may be called Provider in Rust here: rename it in the WIT",
        ),
    ] {
        let message = rust_of(wit).expect_err(wit);
        assert!(message.contains(wanted), "{message}");
    }
}
