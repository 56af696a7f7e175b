//! Writing, quotas, and streams that are written.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::Mutex;
use std::time::Duration;

use loop_engine::{Chunk, Feed, Neutral, Settle, Source, Value};
use serde_json::json;

use super::fsx::{Tree, is};
use super::s;

/// A stream and what tells how it ended.
type Opened = (Box<dyn Source<Neutral>>, Settle<Neutral>);

/// A root that may be changed, with what its grant says besides.
pub(super) fn tree(files: &[(&str, &str)], root: serde_json::Value) -> Tree {
    let mut keys = json!({"mode": "rw"});
    keys.as_object_mut()
        .unwrap()
        .extend(root.as_object().unwrap().clone());
    Tree::with_root(files, keys, json!({}))
}

pub(super) fn data(v: &str) -> Value {
    Value::bytes(v.into())
}

impl Tree {
    pub(super) fn write(&self, function: &str, path: &str, v: &str) -> Result<(), String> {
        self.call(&format!("writing#{function}"), vec![s(path), data(v)])
    }

    pub(super) fn on(&self, function: &str, path: &str) -> Result<(), String> {
        self.call(&format!("writing#{function}"), vec![s(path)])
    }

    pub(super) fn range_to(&self, path: &str, offset: u64, v: &str) -> Result<(), String> {
        self.call("writing#write-range", vec![s(path), Value::u64(offset), data(v)])
    }

    pub(super) fn atomic(&self, path: &str, v: &str, durable: bool) -> Result<(), String> {
        self.call(
            "writing#write-atomic",
            vec![s(path), data(v), Value::Bool(durable)],
        )
    }

    pub(super) fn truncate(&self, path: &str, size: u64) -> Result<(), String> {
        self.call("writing#truncate", vec![s(path), Value::u64(size)])
    }

    pub(super) fn both(&self, function: &str, path: &str, to: &str) -> Result<Option<Value>, String> {
        let root = Value::Host(self.root.clone());
        self.answer(&format!("writing#{function}"), vec![s(path), root, s(to)])
    }

    pub(super) fn symlink(&self, target: &str, path: &str) -> Result<(), String> {
        self.call("writing#symlink", vec![s(target), s(path)])
    }

    pub(super) fn digest(&self, path: &str, algorithm: usize) -> Result<Vec<u8>, String> {
        let v = self.answer("digests#digest", vec![s(path), Value::Case(algorithm, None)])?;
        Ok(v.unwrap().as_bytes().unwrap().to_vec())
    }

    /// The names directly in the folder on the disk.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path(path))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(super) fn streamed(&self, path: &str, placement: Value, chunks: &[&str]) -> Result<u64, String> {
        let source = Chunks(chunks.iter().map(|chunk| chunk.as_bytes().to_vec()).collect());
        let stream = Value::Stream(Mutex::new(Some(Feed::Source(Box::new(source)))));
        let v = self.answer("streaming#write-stream", vec![s(path), placement, stream])?;
        Ok(v.unwrap().as_u64().unwrap())
    }

    /// A stream and how it will have ended.
    pub(super) fn opened(&self, function: &str, args: Vec<Value>) -> Result<Opened, String> {
        let v = self.answer(function, args)?.unwrap();
        let [Value::Stream(stream), Value::Future(end)] = v.items().unwrap() else {
            panic!()
        };
        let Some(Feed::Source(source)) = stream.lock().unwrap().take() else {
            panic!()
        };
        let end = end.lock().unwrap().take().unwrap();
        Ok((source, end))
    }
}

struct Chunks(std::collections::VecDeque<Vec<u8>>);

impl Source<Neutral> for Chunks {
    fn poll_next(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<loop_engine::Result<Option<Chunk<Neutral>>>> {
        std::task::Poll::Ready(Ok(self.0.pop_front().map(|chunk| Chunk::Raw(Box::new(chunk)))))
    }
}

#[test]
fn files_are_written_as_they_say() {
    let t = tree(&[("f", "0123456789"), ("d/x", "")], json!({}));
    symlink("f", t.path("l")).unwrap();
    t.write("write", "f", "abc").unwrap();
    assert_eq!(t.read("f").unwrap(), "abc");
    t.write("write", "l", "through the link").unwrap();
    assert_eq!(t.read("f").unwrap(), "through the link");
    t.write("write", "d/new", "n").unwrap();
    t.write("append", "d/new", "ew").unwrap();
    t.write("append", "d/other", "o").unwrap();
    assert_eq!(
        (t.read("d/new").unwrap(), t.read("d/other").unwrap()),
        ("new".into(), "o".into())
    );
    is("exist", t.write("write-new", "f", ""));
    is("exist", t.write("write-new", "l", ""));
    t.write("write-new", "g", "g").unwrap();
    t.range_to("g", 3, "!").unwrap();
    assert_eq!(t.read("g").unwrap(), "g\0\0!");
    t.range_to("g", 9, "").unwrap();
    assert_eq!(t.read("g").unwrap().len(), 4);
    is("file-too-large", t.range_to("g", u64::MAX, "x"));
    t.truncate("g", 1).unwrap();
    t.truncate("g", 3).unwrap();
    assert_eq!(t.read("g").unwrap(), "g\0\0");
    is("no-entry", t.truncate("none", 0));
    is("is-directory", t.write("write", "d", ""));
    is("is-directory", t.write("write", "new/", ""));
    is("not-directory", t.write("write", "f/x", ""));
    is("no-entry", t.write("write", "none/x", ""));
    is("invalid", t.write("write", "", ""));
}

#[test]
fn names_are_made_moved_and_removed() {
    let t = tree(
        &[("f", "F"), ("d/x", "X"), ("d/e/y", "Y")],
        json!({"links": "create"}),
    );
    t.on("create-directory", "n").unwrap();
    is("exist", t.on("create-directory", "n"));
    is("exist", t.on("create-directory", "f"));
    is("exist", t.on("create-directory", "."));
    is("no-entry", t.on("create-directory", "a/b"));
    t.on("create-directories", "a/./b//c/").unwrap();
    t.on("create-directories", "a/b/../b/c").unwrap();
    is("not-directory", t.on("create-directories", "f/g"));
    is("not-permitted", t.on("create-directories", "../top/z"));
    t.both("rename", "f", "a/b/f").unwrap();
    assert_eq!(t.read("a/b/f").unwrap(), "F");
    t.both("rename", "a/b/f", "./a/b/f").unwrap();
    assert_eq!(t.read("a/b/f").unwrap(), "F");
    is("invalid", t.both("rename", "a", "a/b/a"));
    is("not-empty", t.both("rename", "n", "d"));
    is("no-entry", t.both("rename", "none", "m"));
    is("not-directory", t.both("rename", "d/x", "m/"));
    t.both("link", "d/x", "x2").unwrap();
    t.write("write", "x2", "both").unwrap();
    assert_eq!(t.read("d/x").unwrap(), "both");
    t.symlink("../d/x", "a/l").unwrap();
    assert_eq!(t.read("a/l").unwrap(), "both");
    is("unsupported", t.both("link", "a/l", "h"));
    is("not-permitted", t.symlink("../../secret", "a/out"));
    is("not-permitted", t.symlink("/etc", "a/out"));
    is("is-directory", t.on("remove-file", "d"));
    is("not-directory", t.on("remove-file", "x2/"));
    is("not-empty", t.on("remove-directory", "d"));
    is("not-directory", t.on("remove-directory", "x2"));
    t.on("remove-file", "x2").unwrap();
    t.on("remove-directory", "n").unwrap();
    t.on("remove-tree", "d").unwrap();
    t.on("remove-tree", "a/l").unwrap();
    assert_eq!(
        (t.names("."), t.names("a")),
        (vec!["a".to_string()], vec!["b".to_string()])
    );
    is("invalid", t.on("remove-tree", "."));
    is("not-permitted", t.on("remove-tree", ".."));
}

#[test]
fn nothing_is_changed_outside_or_where_only_reading_is_granted() {
    let t = tree(&[("f", "F"), ("d/x", "X")], json!({"links": "create"}));
    symlink("../secret", t.path("out")).unwrap();
    symlink("..", t.path("up")).unwrap();
    symlink("../new", t.path("dangling")).unwrap();
    let before = fs::read_dir(t.folder.path()).unwrap().count();
    for path in [
        "../secret",
        "out",
        "up/secret",
        "/etc/none",
        "d/../../secret",
        "dangling",
    ] {
        for function in ["write", "append", "write-new"] {
            let code = t.write(function, path, "x").unwrap_err();
            assert!(
                code == "not-permitted" || code == "exist",
                "{function} {path}: {code}"
            );
        }
        is("not-permitted", t.range_to(path, 0, "x"));
        is("not-permitted", t.truncate(path, 0));
        is("not-permitted", t.digest(path, 0));
        is("not-permitted", t.streamed(path, Value::Case(0, None), &["x"]));
        is("not-permitted", t.both("copy", path, "stolen"));
        is("not-permitted", t.both("copy", "f", path));
        is(
            "not-permitted",
            t.call("writing#set-times", vec![s(path), Value::none(), Value::none()]),
        );
    }
    for path in ["../secret", "up/secret", "/etc/none", "d/../../secret"] {
        is("not-permitted", t.atomic(path, "x", false));
        is("not-permitted", t.on("remove-file", path));
        is("not-permitted", t.on("remove-tree", path));
        is("not-permitted", t.on("create-directory", path));
        for function in ["rename", "link"] {
            is("not-permitted", t.both(function, path, "stolen"));
            is("not-permitted", t.both(function, "f", path));
        }
        is("not-permitted", t.both("copy-tree", "d", path));
        is("not-permitted", t.symlink("f", path));
    }
    is("not-permitted", t.watch("..", true, None).map(drop));
    is("not-permitted", t.walk("up", &[], false, true, None));
    assert_eq!(fs::read(t.folder.path().join("secret")).unwrap(), b"SECRET");
    assert_eq!(fs::read_dir(t.folder.path()).unwrap().count(), before);
    // an atomic write replaces a link, wherever that leads
    t.atomic("out", "mine", false).unwrap();
    assert_eq!(fs::read(t.folder.path().join("secret")).unwrap(), b"SECRET");

    let t = Tree::new(&[("f", "F")]);
    is("read-only", t.write("write", "f", "x"));
    is("read-only", t.atomic("f", "x", true));
    is("read-only", t.truncate("f", 0));
    is("read-only", t.streamed("f", Value::Case(1, None), &["x"]));
    for function in ["rename", "link", "copy", "copy-tree"] {
        is("read-only", t.both(function, "f", "g"));
    }
    for function in [
        "create-directory",
        "create-directories",
        "remove-file",
        "remove-directory",
        "remove-tree",
    ] {
        is("read-only", t.on(function, "f"));
    }
    is("read-only", t.symlink("f", "g"));
    is(
        "read-only",
        t.call("writing#set-times", vec![s("f"), Value::none(), Value::none()]),
    );
    assert_eq!(t.read("f").unwrap(), "F");
}

#[test]
fn links_mean_what_the_grant_says() {
    let t = tree(&[("d/x", "X")], json!({"links": "refuse"}));
    symlink("d", t.path("l")).unwrap();
    symlink("x", t.path("d/y")).unwrap();
    for path in ["l/x", "d/y", "l/../l/x"] {
        is("loop", t.read(path));
        is("loop", t.write("write", path, ""));
        is("loop", t.digest(path, 0));
    }
    is("loop", t.list("l"));
    is("loop", t.on("remove-file", "l/x"));
    is("not-permitted", t.symlink("x", "d/z"));
    is("not-permitted", t.read("d/../../secret"));
    assert_eq!(t.read("d/../d/x").unwrap(), "X");
    assert_eq!(t.stat("l").unwrap(), ("l".to_string(), 2, 0));
    t.on("remove-file", "l").unwrap();
    let link = |t: &Tree, path: &str| t.answer("files#[method]dir.read-link", vec![s(path)]);
    assert_eq!(link(&t, "d/y").unwrap().unwrap().as_str().unwrap(), "x");
    symlink("/etc/passwd", t.path("abs")).unwrap();
    is("not-permitted", link(&t, "abs"));
    is("invalid", link(&t, "d/x"));
    is("not-permitted", tree(&[], json!({})).symlink("x", "y"));
}

#[test]
fn a_file_is_replaced_in_one_step() {
    use std::os::unix::fs::PermissionsExt;
    let t = tree(&[("d/f", "old")], json!({}));
    fs::set_permissions(t.path("d/f"), fs::Permissions::from_mode(0o640)).unwrap();
    let reader = fs::File::open(t.path("d/f")).unwrap();
    t.atomic("d/f", "new", false).unwrap();
    t.atomic("d/g", "durable", true).unwrap();
    assert_eq!(std::io::read_to_string(reader).unwrap(), "old");
    assert_eq!(t.read("d/f").unwrap(), "new");
    assert_eq!(fs::metadata(t.path("d/f")).unwrap().mode() & 0o777, 0o640);
    is("is-directory", t.atomic("d", "x", false));
    is("no-entry", t.atomic("none/f", "x", false));
    assert_eq!(t.names("d"), ["f", "g"]);
}

#[test]
fn a_quota_bounds_what_a_root_holds() {
    let t = tree(
        &[("a", "12345"), ("d/b", "12345")],
        json!({"max-bytes": 20, "max-files": 5}),
    );
    t.write("write", "a", "1234567890").unwrap(); // 15
    is("quota", t.write("append", "a", "123456"));
    is("quota", t.range_to("a", 20, "1"));
    is("quota", t.truncate("a", 16));
    is("quota", t.atomic("a", "12345678901", false)); // old and new are there at once
    is("quota", t.streamed("a", Value::Case(1, None), &["123", "456"]));
    t.truncate("a", 5).unwrap();
    t.write("write", "e", "1234567890").unwrap(); // 20 bytes, 4 files
    t.on("create-directory", "n").unwrap();
    is("quota", t.on("create-directory", "m"));
    is("quota", t.both("link", "a", "m"));
    is("quota", t.write("write", "m", ""));
    t.on("remove-tree", "d").unwrap();
    t.both("copy", "a", "c").unwrap();
    assert_eq!(t.read("c").unwrap(), "12345");
    is("quota", t.both("copy", "e", "f"));
    assert!(!t.path("f").exists() || fs::metadata(t.path("f")).unwrap().len() == 0);
    // what others remove is found once it matters
    fs::remove_file(t.path("e")).unwrap();
    let _ = t.on("remove-file", "f");
    std::thread::sleep(Duration::from_millis(20));
    t.write("write", "g", "1234567890").unwrap();
}

#[test]
fn trees_are_copied_and_removed() {
    let t = tree(&[("d/x", "X"), ("d/e/y", "YY")], json!({"links": "create"}));
    symlink("e/y", t.path("d/in")).unwrap();
    symlink("../../secret", t.path("d/out")).unwrap();
    let copied = t.both("copy-tree", "d", "d/e/copy").unwrap().unwrap();
    let counts: Vec<_> = copied
        .items()
        .unwrap()
        .iter()
        .map(|n| n.as_u64().unwrap())
        .collect();
    assert_eq!(counts, [5, 3, 1]);
    assert_eq!(t.names("d/e/copy"), ["e", "in", "x"]);
    assert_eq!(t.read("d/e/copy/in").unwrap(), "YY");
    is("exist", t.both("copy-tree", "d", "d/e/copy"));
    is("not-directory", t.both("copy-tree", "d/x", "z"));
    // deeper than any path may be
    let mut at = cap_std::fs::Dir::open_ambient_dir(t.path("d"), cap_std::ambient_authority()).unwrap();
    for _ in 0..5000 {
        at.create_dir("deep").unwrap();
        at = at.open_dir("deep").unwrap();
    }
    at.write("f", "").unwrap();
    drop(at);
    assert_eq!(t.walk("d", &["f"], false, true, None).unwrap(), [""; 0]);
    t.on("remove-tree", "d").unwrap();
    assert_eq!(t.names("."), [""; 0]);
}

#[test]
fn times_are_set() {
    let t = tree(&[("f", "")], json!({}));
    let at = |seconds: i64, nanoseconds| {
        let seconds = Value::Num(loop_engine::Num::S64, seconds as u64);
        Value::some(Value::Fields(vec![seconds, Value::u32(nanoseconds)]))
    };
    t.call(
        "writing#set-times",
        vec![s("f"), Value::none(), at(-5, 250_000_000)],
    )
    .unwrap();
    let meta = fs::metadata(t.path("f")).unwrap();
    assert_eq!((meta.mtime(), meta.mtime_nsec()), (-5, 250_000_000));
    is(
        "invalid",
        t.call(
            "writing#set-times",
            vec![s("f"), Value::none(), at(0, 1_000_000_000)],
        ),
    );
}

#[test]
fn streams_are_written() {
    let t = tree(&[("f", "0123456789")], json!({}));
    let big = "0123456789abcdef".repeat(40_000);
    assert_eq!(
        t.streamed("f", Value::Case(0, None), &["ab", "", "c"]).unwrap(),
        3
    );
    assert_eq!(t.streamed("f", Value::Case(1, None), &["d"]).unwrap(), 1);
    assert_eq!(
        t.streamed("f", Value::Case(2, Some(Box::new(Value::u64(2)))), &["X", "YZ"])
            .unwrap(),
        3
    );
    assert_eq!(t.read("f").unwrap(), "abXYZ");
    assert_eq!(
        t.streamed(
            "g",
            Value::Case(3, Some(Box::new(Value::Bool(true)))),
            &[&big, &big]
        )
        .unwrap(),
        1_280_000
    );
    assert_eq!(fs::metadata(t.path("g")).unwrap().len(), 1_280_000);
    is("is-directory", t.streamed(".", Value::Case(0, None), &["x"]));
    assert_eq!(t.names("."), ["f", "g"]);
}
