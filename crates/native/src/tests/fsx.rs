use std::fs;
use std::future::poll_fn;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use loop_engine::{Chunk, Feed, Settle, Value};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::{Bench, s};

/// A root `r` in a folder of its own, with a secret beside it.
pub(super) struct Tree {
    pub bench: Bench,
    pub root: Arc<dyn std::any::Any + Send + Sync>,
    pub folder: TempDir,
}

impl Tree {
    pub fn new(files: &[(&str, &str)]) -> Self {
        Self::granted(files, json!({}))
    }

    fn granted(files: &[(&str, &str)], grant: Json) -> Self {
        Self::with_root(files, json!({}), grant)
    }

    /// `keys`: what the grant says of the root.
    pub fn with_root(files: &[(&str, &str)], mut keys: Json, mut grant: Json) -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("top")).unwrap();
        fs::write(folder.path().join("secret"), "SECRET").unwrap();
        for (path, data) in files {
            let path = folder.path().join("top").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, data).unwrap();
        }
        keys["path"] = json!(folder.path().join("top"));
        grant["roots"] = json!({"r": keys});
        let bench = Bench::new("fsx", grant);
        let Value::Case(0, Some(root)) = bench.get("files#root", vec![s("r")]) else {
            panic!()
        };
        let Value::Host(root) = *root else { panic!() };
        Tree { bench, root, folder }
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("top").join(name)
    }

    /// What a function answers, or the name of its error.
    pub fn answer(&self, function: &str, rest: Vec<Value>) -> Result<Option<Value>, String> {
        let args = std::iter::once(Value::Host(self.root.clone()))
            .chain(rest)
            .collect();
        match self.bench.get(function, args) {
            Value::Case(0, v) => Ok(v.map(|v| *v)),
            Value::Case(1, Some(v)) => Err(self.bench.wit.error_code(&v)),
            other => panic!("{other:?}"),
        }
    }

    /// The same of one without an answer.
    pub fn call(&self, function: &str, rest: Vec<Value>) -> Result<(), String> {
        self.answer(function, rest).map(|v| assert!(v.is_none()))
    }

    fn value(&self, function: &str, rest: Vec<Value>) -> Result<Value, String> {
        self.answer(function, rest).map(|v| v.expect("an answer"))
    }

    pub fn read(&self, path: &str) -> Result<String, String> {
        let v = self.value("files#[method]dir.read", vec![s(path)])?;
        Ok(String::from_utf8(v.as_bytes().unwrap().to_vec()).unwrap())
    }

    fn range(&self, path: &str, offset: u64, len: u32) -> Result<String, String> {
        let v = self.value(
            "files#[method]dir.read-range",
            vec![s(path), Value::u64(offset), Value::u32(len)],
        )?;
        Ok(String::from_utf8(v.as_bytes().unwrap().to_vec()).unwrap())
    }

    /// Name, kind and size.
    pub fn list(&self, path: &str) -> Result<Vec<(String, usize, u64)>, String> {
        Ok(self
            .value("files#[method]dir.list", vec![s(path)])?
            .items()
            .unwrap()
            .iter()
            .map(entry)
            .collect())
    }

    pub fn stat(&self, path: &str) -> Result<(String, usize, u64), String> {
        Ok(entry(&self.value("files#[method]dir.stat", vec![s(path)])?))
    }

    fn glob(&self, pattern: &str) -> Result<Vec<String>, String> {
        let v = self.value("files#[method]dir.glob", vec![s(pattern)])?;
        Ok(v.items()
            .unwrap()
            .iter()
            .map(|v| v.as_str().unwrap().to_string())
            .collect())
    }

    /// Reads at most `chunks` of the stream, drops it, and asks the future how it ended.
    fn stream(&self, path: &str, offset: u64, chunks: usize) -> Result<(Vec<u8>, bool), String> {
        let v = self.value("streaming#read-stream", vec![s(path), Value::u64(offset)])?;
        let [Value::Stream(stream), Value::Future(end)] = v.items().unwrap() else {
            panic!()
        };
        let Some(Feed::Source(mut source)) = stream.lock().unwrap().take() else {
            panic!()
        };
        let Some(Settle::Value(end)) = end.lock().unwrap().take() else {
            panic!()
        };
        self.bench.runtime.block_on(async {
            let mut bytes = vec![];
            for _ in 0..chunks {
                match poll_fn(|cx| source.poll_next(cx)).await.unwrap() {
                    Some(Chunk::Raw(chunk)) => bytes.extend_from_slice((*chunk).as_ref()),
                    Some(_) => panic!("not bytes"),
                    None => break,
                }
            }
            drop(source);
            Ok((bytes, matches!(end.await.unwrap(), Value::Case(0, None))))
        })
    }
}

fn entry(v: &Value) -> (String, usize, u64) {
    let [name, Value::Case(kind, None), size, Value::Case(1, Some(_))] = v.items().unwrap() else {
        panic!()
    };
    (name.as_str().unwrap().into(), *kind, size.as_u64().unwrap())
}

pub(super) fn is<T: std::fmt::Debug>(code: &str, answer: Result<T, String>) {
    assert_eq!(answer.unwrap_err(), code);
}

#[test]
fn roots_are_known_by_name() {
    let tree = Tree::new(&[]);
    let roots = tree.bench.get("files#roots", vec![]);
    assert_eq!(
        roots.items().unwrap()[0].items().unwrap()[0].as_str().unwrap(),
        "r"
    );
    let Value::Case(1, Some(code)) = tree.bench.get("files#root", vec![s("other")]) else {
        panic!()
    };
    assert_eq!(tree.bench.wit.error_code(&code), "not-permitted");
}

#[test]
fn entries_are_sorted_and_described() {
    let tree = Tree::new(&[
        ("b", "12"),
        ("B", ""),
        ("é", ""),
        ("\u{10000}", ""),
        ("\u{ffff}", ""),
        ("d/x", "1"),
    ]);
    symlink("../secret", tree.path("out")).unwrap();
    symlink("d", tree.path("in")).unwrap();
    fs::write(tree.path(std::str::from_utf8(b"ok").unwrap()), "").unwrap();
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        fs::write(
            tree.folder
                .path()
                .join("top")
                .join(std::ffi::OsStr::from_bytes(b"\xff.txt")),
            "",
        )
        .unwrap();
    }
    let names: Vec<_> = tree.list(".").unwrap();
    let names: Vec<_> = names
        .iter()
        .map(|(n, kind, size)| (n.as_str(), *kind, *size))
        .collect();
    let (file, dir, link) = (0, 1, 2);
    assert_eq!(
        names,
        [
            ("B", file, 0),
            ("b", file, 2),
            ("d", dir, 0),
            ("in", link, 0),
            ("ok", file, 0),
            ("out", link, 0),
            ("é", file, 0),
            ("\u{ffff}", file, 0),
            ("\u{10000}", file, 0),
        ]
    );
    assert_eq!(tree.list("in").unwrap(), [("x".to_string(), file, 1)]);
    assert_eq!(tree.stat("out").unwrap(), ("out".to_string(), link, 0));
    assert_eq!(tree.stat("in/").unwrap(), ("in".to_string(), dir, 0));
    assert_eq!(tree.stat("d/x").unwrap(), ("x".to_string(), file, 1));
    assert_eq!(tree.stat(".").unwrap(), (".".to_string(), dir, 0));
    is("not-directory", tree.stat("b/"));
    is("not-directory", tree.stat("b/."));
    is("not-permitted", tree.stat("out/"));
    is("not-permitted", tree.stat(".."));
    is("not-directory", tree.list("b"));
    is("no-entry", tree.list("none"));
}

#[test]
fn no_path_leads_out() {
    let tree = Tree::new(&[("f", "IN"), ("d/e/g", "DEEP")]);
    let root = tree.path("");
    for (name, to) in [
        ("up", "../secret"),
        ("back", "../top/f"),
        ("abs", "/etc"),
        ("dir", ".."),
    ] {
        symlink(to, tree.path(name)).unwrap();
    }
    symlink(root.join("f"), tree.path("abs-in")).unwrap();
    symlink("../f", tree.path("d/ok")).unwrap();
    for path in [
        "../secret",
        "d/../../secret",
        "/etc/passwd",
        "//f",
        "up",
        "back",
        "abs/passwd",
        "abs-in",
        "dir/secret",
    ] {
        is("not-permitted", tree.read(path));
        is("not-permitted", tree.stream(path, 0, 9));
    }
    is("not-permitted", tree.list(".."));
    is("not-permitted", tree.list("dir"));
    assert_eq!(tree.read("d/ok").unwrap(), "IN");
    assert_eq!(tree.read("d/e/../../f").unwrap(), "IN");
    assert_eq!(tree.glob("**").unwrap(), ["d/e/g", "f"]);
}

#[test]
fn odd_paths_have_their_codes() {
    let tree = Tree::new(&[("f", "IN"), ("d/x", "")]);
    symlink("l2", tree.path("l1")).unwrap();
    symlink("l1", tree.path("l2")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(tree.path("socket")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        tree.path("pipe"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    for (path, code) in [
        ("", "invalid"),
        ("f\0", "invalid"),
        ("none", "no-entry"),
        ("d", "is-directory"),
        (".", "is-directory"),
        ("f/", "not-directory"),
        ("f/x", "not-directory"),
        ("l1", "loop"),
        ("pipe", "unsupported"),
        ("socket", "unsupported"),
    ] {
        is(code, tree.read(path));
        is(code, tree.range(path, 0, 1));
        is(code, tree.stream(path, 0, 1));
    }
    drop(socket);
    is("name-too-long", tree.read(&"a".repeat(256)));
    is("name-too-long", tree.read(&"a/".repeat(5000)));
    assert_eq!(tree.stat("pipe").unwrap(), ("pipe".to_string(), 3, 0));
}

#[test]
fn ranges_stop_at_the_end() {
    let tree = Tree::new(&[("f", "0123456789")]);
    for (offset, len, expected) in [
        (0, 4, "0123"),
        (8, 4, "89"),
        (10, 1, ""),
        (11, 1, ""),
        (3, 0, ""),
        (u64::MAX, 1, ""),
        (0, u32::MAX, "0123456789"),
    ] {
        assert_eq!(tree.range("f", offset, len).unwrap(), expected);
    }
}

#[test]
fn a_grant_bounds_one_answer() {
    let tree = Tree::granted(
        &[("a", "1234"), ("b", "12345"), ("d/c", "")],
        json!({"max-read": 4, "max-entries": 3}),
    );
    assert_eq!(tree.read("a").unwrap(), "1234");
    is("file-too-large", tree.read("b"));
    is("file-too-large", tree.range("b", 0, 5));
    assert_eq!(tree.range("b", 1, 5).unwrap(), "2345");
    assert_eq!(tree.stream("b", 0, 9).unwrap(), (b"12345".to_vec(), true));
    assert_eq!(
        (tree.list(".").unwrap().len(), tree.glob("**").unwrap().len()),
        (3, 3)
    );
    fs::write(tree.path("e"), "").unwrap();
    is("message-size", tree.list("."));
    is("message-size", tree.glob("**"));
}

#[test]
fn patterns_are_those_of_ripgrep() {
    let files = [
        "a.txt",
        "src/a.txt",
        "src/deep/b.rs",
        "src/deep/src/c.rs",
        ".hidden",
        "#x",
        "x y",
    ]
    .map(|p| (p, ""));
    let tree = Tree::new(&files);
    symlink("src", tree.path("link")).unwrap();
    for (pattern, matches) in [
        ("*.txt", vec!["a.txt", "src/a.txt"]),
        ("/*.txt", vec!["a.txt"]),
        ("src/*.txt", vec!["src/a.txt"]),
        ("src/**/*.rs", vec!["src/deep/b.rs", "src/deep/src/c.rs"]),
        ("/src/deep/*.rs", vec!["src/deep/b.rs"]),
        ("s[r]c/*", vec!["src/a.txt"]),
        ("src", vec![]),
        ("src/", vec![]),
        ("./a.txt", vec![]),
        ("link/*", vec![]),
        ("{.h,x}*", vec![".hidden", "x y"]),
        ("\\#x", vec!["#x"]),
    ] {
        assert_eq!(tree.glob(pattern).unwrap(), matches, "{pattern}");
    }
    let nested = |n| format!("{}x{}", "{".repeat(n), "}".repeat(n));
    for pattern in ["", " ", "#x", "!a", "a\0", "[a", "{a", &nested(33)] {
        is("invalid", tree.glob(pattern));
    }
    assert_eq!(tree.glob(&nested(32)).unwrap(), [""; 0]);
    is("name-too-long", tree.glob(&"a".repeat(5000)));
}

#[test]
fn no_pattern_overflows_the_stack() {
    let tree = Tree::new(&[]);
    std::thread::scope(|scope| {
        let small = std::thread::Builder::new().stack_size(128 << 10);
        let run = || {
            for n in [32, 2000] {
                let _ = tree.glob(&format!("{}x{}", "{".repeat(n), "}".repeat(n)));
                let _ = tree.glob(&"{a,".repeat(n.min(1300)));
            }
            for piece in ["*a", "**/a/", "{a,b}", "[a-z]", "\\{"] {
                tree.glob(&piece.repeat(4096 / piece.len())).ok();
            }
        };
        small.spawn_scoped(scope, run).unwrap().join().unwrap();
    });
}

#[test]
fn a_stream_gives_the_bytes_and_tells_how_it_ended() {
    let data = "0123456789abcdef".repeat(40_000);
    let tree = Tree::new(&[("f", &data)]);
    assert_eq!(
        tree.stream("f", 0, 99).unwrap(),
        (data.clone().into_bytes(), true)
    );
    assert_eq!(
        tree.stream("f", 639_990, 99).unwrap(),
        (b"6789abcdef".to_vec(), true)
    );
    for offset in [640_000, 700_000, u64::MAX] {
        assert_eq!(tree.stream("f", offset, 99).unwrap(), (vec![], true));
    }
    let (first, ended_well) = tree.stream("f", 0, 1).unwrap();
    assert!(!first.is_empty() && first.len() < data.len() && ended_well);
}

#[test]
fn a_deep_tree_takes_few_descriptors() {
    let tree = Tree::new(&[]);
    let mut at = cap_std::fs::Dir::open_ambient_dir(tree.path(""), cap_std::ambient_authority()).unwrap();
    for _ in 0..1500 {
        at.create_dir("d").unwrap();
        at = at.open_dir("d").unwrap();
    }
    at.write("f", "").unwrap();
    assert_eq!(tree.glob("f").unwrap(), [format!("{}f", "d/".repeat(1500))]);
    std::process::Command::new("rm")
        .arg("-rf")
        .arg(tree.path("d"))
        .status()
        .unwrap();
}
