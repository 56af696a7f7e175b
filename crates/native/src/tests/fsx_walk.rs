//! Walks, watches, digests and temporary directories.

use std::fs;
use std::future::poll_fn;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use loop_engine::{Chunk, Neutral, Settle, Source, Value};
use serde_json::json;

use super::fsx::{Tree, is};
use super::fsx_write::{data, tree};
use super::s;

impl Tree {
    pub(super) fn walk(
        &self,
        path: &str,
        globs: &[&str],
        gitignore: bool,
        hidden: bool,
        depth: Option<u32>,
    ) -> Result<Vec<String>, String> {
        let globs = Value::List(globs.iter().map(|glob| s(glob)).collect());
        let depth = depth.map_or(Value::none(), |depth| Value::some(Value::u32(depth)));
        let options = Value::Fields(vec![globs, Value::Bool(gitignore), Value::Bool(hidden), depth]);
        let (mut source, end) = self.opened("walking#walk", vec![s(path), options])?;
        self.bench.runtime.block_on(async {
            let mut found = vec![];
            while let Some(Chunk::Values(folders)) = poll_fn(|cx| source.poll_next(cx)).await.unwrap() {
                for folder in folders {
                    let [path, lists @ ..] = folder.items().unwrap() else {
                        panic!()
                    };
                    let path = path.as_str().unwrap();
                    for (list, mark) in lists.iter().zip(["", "/", "@", "?"]) {
                        found.extend(list.items().unwrap().iter().map(|name| {
                            let name = name.as_str().unwrap();
                            if path == "." {
                                format!("{name}{mark}")
                            } else {
                                format!("{path}/{name}{mark}")
                            }
                        }));
                    }
                }
            }
            let Settle::Value(end) = end else { panic!() };
            let end = end.await.unwrap();
            found.sort();
            match end {
                Value::Case(0, None) => Ok(found),
                Value::Case(_, Some(code)) => Err(self.bench.wit.error_code(&code)),
                _ => panic!(),
            }
        })
    }

    pub(super) fn watch(
        &self,
        path: &str,
        recursive: bool,
        debounce: Option<u32>,
    ) -> Result<Watch<'_>, String> {
        let debounce = debounce.map_or(Value::none(), |ms| Value::some(Value::u32(ms)));
        let options = Value::Fields(vec![Value::Bool(recursive), debounce]);
        let (source, end) = self.opened("watching#watch", vec![s(path), options])?;
        Ok(Watch {
            tree: self,
            source,
            end,
            told: vec![],
        })
    }
}

pub(super) struct Watch<'t> {
    tree: &'t Tree,
    source: Box<dyn Source<Neutral>>,
    end: Settle<Neutral>,
    told: Vec<String>,
}

impl Watch<'_> {
    /// Reads until an event that looks so was told; all that were told up to there.
    fn until(&mut self, last: &str) -> Vec<String> {
        loop {
            if let Some(at) = self.told.iter().position(|told| told == last) {
                return self.told.drain(..=at).collect();
            }
            let more = self
                .more()
                .unwrap_or_else(|| panic!("ended before {last}: {:?}", self.told));
            self.told.extend(more);
        }
    }

    fn more(&mut self) -> Option<Vec<String>> {
        let next = self.tree.bench.runtime.block_on(async {
            let next = poll_fn(|cx| self.source.poll_next(cx));
            tokio::time::timeout(Duration::from_secs(20), next)
                .await
                .expect("it is told")
                .unwrap()
        });
        let Chunk::Values(events) = next? else { panic!() };
        Some(events.iter().map(|event| self.show(event)).collect())
    }

    fn show(&self, event: &Value) -> String {
        let Value::Case(case, payload) = event else {
            panic!()
        };
        match (case, payload.as_deref()) {
            (3, Some(names)) => {
                let [old, new] = names.items().unwrap() else {
                    panic!()
                };
                format!("{} -> {}", old.as_str().unwrap(), new.as_str().unwrap())
            }
            (4, None) => "overflow".into(),
            (case, Some(path)) => format!("{}{}", ["+", "~", "-"][*case], path.as_str().unwrap()),
            _ => panic!(),
        }
    }

    /// How it ended, once it has.
    fn ended(mut self) -> String {
        while self.more().is_some() {}
        let Settle::Value(end) = self.end else { panic!() };
        match self.tree.bench.runtime.block_on(end).unwrap() {
            Value::Case(1, Some(code)) => self.tree.bench.wit.error_code(&code),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn digests_are_those_of_the_bytes() {
    let sizes = [0, 1, 1000, 300_000, 4 << 20, (4 << 20) + 1, (9 << 20) + 12_345];
    let t = tree(&[], json!({}));
    for size in sizes {
        let bytes: Vec<u8> = (0..size).map(|i: usize| (i * 7 + i / 251) as u8).collect();
        fs::write(t.path("f"), &bytes).unwrap();
        assert_eq!(
            t.digest("f", 0).unwrap(),
            blake3::hash(&bytes).as_bytes(),
            "{size}"
        );
        use sha2::Digest;
        assert_eq!(
            t.digest("f", 1).unwrap(),
            sha2::Sha256::digest(&bytes).to_vec(),
            "{size}"
        );
    }
    is("is-directory", t.digest(".", 0));
    is("no-entry", t.digest("none", 0));
}

#[test]
fn a_walk_finds_what_it_looks_for() {
    let files = [
        "a.txt",
        ".h",
        "src/a.rs",
        "src/.git/x",
        "src/deep/b.rs",
        "src/deep/b.log",
        "out/x.o",
        "src/deep/keep.log",
    ]
    .map(|path| (path, ""));
    let t = tree(&files, json!({}));
    symlink("src", t.path("l")).unwrap();
    fs::write(t.path(".gitignore"), "*.log\n/out/\n").unwrap();
    fs::write(t.path("src/deep/.gitignore"), "!keep.log\n").unwrap();
    let all = |v: Vec<String>| v.join(" ");
    assert_eq!(
        all(t.walk(".", &[], false, false, None).unwrap()),
        "a.txt l@ out/ out/x.o src/ src/a.rs src/deep/ src/deep/b.log src/deep/b.rs src/deep/keep.log"
    );
    assert_eq!(
        all(t.walk("./src/", &[], true, true, None).unwrap()),
        "src/a.rs src/deep/ src/deep/.gitignore src/deep/b.rs src/deep/keep.log"
    );
    assert_eq!(
        all(t.walk(".", &[], true, false, Some(0)).unwrap()),
        "a.txt l@ src/"
    );
    assert_eq!(
        all(t.walk(".", &["*.rs", "!b.*"], false, false, None).unwrap()),
        "src/a.rs"
    );
    assert_eq!(
        all(t.walk("l", &["*.rs"], false, false, None).unwrap()),
        "l/a.rs l/deep/b.rs"
    );
    assert_eq!(
        all(t.walk(".", &["!*.rs", "!*.log"], false, false, None).unwrap()),
        "a.txt out/x.o"
    );
    is("invalid", t.walk(".", &["[a"], false, false, None));
    is("invalid", t.walk(".", &[""], false, false, None));
    is("not-directory", t.walk("a.txt", &[], false, false, None));
    is("no-entry", t.walk("none", &[], false, false, None));
}

#[test]
fn a_walk_takes_wide_and_many_directories() {
    let t = tree(&[], json!({}));
    fs::create_dir(t.path("wide")).unwrap();
    for i in 0..5000 {
        fs::write(t.path(&format!("wide/a-rather-long-name-of-a-file-{i:05}")), "").unwrap();
    }
    for i in 0..400 {
        fs::create_dir_all(t.path(&format!("many/{}/{i}", i % 7))).unwrap();
        fs::write(t.path(&format!("many/{}/{i}/f", i % 7)), "").unwrap();
    }
    assert_eq!(t.walk("wide", &[], false, false, None).unwrap().len(), 5000);
    assert_eq!(t.walk(".", &["**"], false, false, None).unwrap().len(), 5400);
    // one that nobody reads ends with its stream
    let options = Value::Fields(vec![
        Value::List(vec![]),
        Value::Bool(false),
        Value::Bool(true),
        Value::none(),
    ]);
    drop(t.opened("walking#walk", vec![s("."), options]).unwrap());
}

#[test]
fn changes_are_told() {
    let t = tree(&[("d/f", ""), ("d/e/g", ""), ("other/x", "")], json!({}));
    let mut watch = t.watch("d", true, None).unwrap();
    fs::write(t.path("d/f"), "1").unwrap();
    assert_eq!(watch.until("~d/f"), ["~d/f"]);
    fs::write(t.path("d/e/new"), "1").unwrap();
    assert_eq!(watch.until("+d/e/new"), ["+d/e/new"]);
    fs::rename(t.path("d/e"), t.path("d/moved")).unwrap();
    watch.until("d/e -> d/moved");
    fs::write(t.path("d/moved/g"), "2").unwrap();
    watch.until("~d/moved/g");
    fs::create_dir_all(t.path("d/a/b/c")).unwrap();
    watch.until("+d/a/b/c");
    fs::write(t.path("d/a/b/c/x"), "3").unwrap();
    watch.until("+d/a/b/c/x");
    // what is moved out is none of its business any more
    fs::rename(t.path("d/a"), t.path("other/a")).unwrap();
    watch.until("-d/a");
    fs::write(t.path("other/a/b/c/x"), "4").unwrap();
    symlink("../other", t.path("d/link")).unwrap();
    fs::write(t.path("other/x"), "5").unwrap();
    fs::rename(t.path("other/a"), t.path("d/back")).unwrap();
    let told = watch.until("+d/back/b/c/x");
    assert!(
        told.iter()
            .all(|event| event.starts_with("+d/back") || event == "+d/link"),
        "{told:?}"
    );
    fs::remove_file(t.path("d/f")).unwrap();
    watch.until("-d/f");
    fs::remove_dir_all(t.path("d")).unwrap();
    assert_eq!(watch.ended(), "no-entry");
    is("not-directory", t.watch("other/x", true, None).map(drop));
}

#[test]
fn a_storm_is_told_once() {
    let t = Tree::with_root(
        &[("f", "")],
        json!({"mode": "rw"}),
        json!({"max-events": 10, "max-watched": 2, "max-watches": 2}),
    );
    let mut watch = t.watch(".", true, Some(30)).unwrap();
    for i in 0..1000 {
        fs::write(t.path("f"), i.to_string()).unwrap();
        fs::write(t.path("passing"), "").unwrap();
        fs::remove_file(t.path("passing")).unwrap();
    }
    fs::create_dir(t.path("d")).unwrap();
    assert_eq!(watch.until("+d"), ["~f", "+d"]);
    for i in 0..50 {
        fs::write(t.path(&format!("f{i}")), "").unwrap();
    }
    assert_eq!(watch.until("overflow"), ["overflow"]);
    fs::write(t.path("f"), "goes on").unwrap();
    watch.until("~f");
    let other = t.watch(".", false, None);
    is("quota", other.map(drop)); // one directory more than may be watched
    fs::create_dir(t.path("d/e")).unwrap();
    assert_eq!(watch.ended(), "quota");
    let one = t.watch("d", false, None).unwrap();
    let two = t.watch("d/e", false, None).unwrap();
    is("quota", t.watch("d/e", false, None).map(drop));
    drop((one, two));
    t.watch(".", false, None).unwrap();
    is("invalid", t.watch(".", false, Some(60_001)).map(drop));
}

#[test]
fn a_directory_that_was_renamed_before_it_was_looked_at_is_watched() {
    let t = tree(&[], json!({}));
    let mut watch = t.watch(".", true, None).unwrap();
    // nothing of this is looked at before the first read
    fs::create_dir(t.path("new")).unwrap();
    fs::write(t.path("new/first"), "").unwrap();
    fs::rename(t.path("new"), t.path("a")).unwrap();
    assert_eq!(watch.until("+a/first"), ["+new", "new -> a", "+a/first"]);
    fs::write(t.path("a/second"), "").unwrap();
    assert_eq!(watch.until("+a/second"), ["+a/second"]);
}

#[test]
fn a_temporary_directory_goes_with_its_handle() {
    let place = tempfile::TempDir::new().unwrap();
    let left = |n: usize| {
        for _ in 0..500 {
            if fs::read_dir(place.path()).unwrap().count() == n {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!(
            "not {n}: {:?}",
            fs::read_dir(place.path()).unwrap().collect::<Vec<_>>()
        );
    };
    // what a killed host left: nobody has the lock
    fs::create_dir_all(place.path().join("loop-fsx-0123/dirs/0/deep")).unwrap();
    fs::write(place.path().join("loop-fsx-0123/lock"), "").unwrap();
    fs::create_dir(place.path().join("loop-fsx-empty")).unwrap();
    fs::create_dir(place.path().join("another")).unwrap();
    let grant = json!({"temp": {"path": place.path(), "max-dirs": 2, "max-bytes": 10, "max-files": 5}});
    let bench = super::Bench::new("fsx", grant.clone());
    left(2);
    let temp = |bench: &super::Bench| match bench.get("temporary#temp-dir", vec![]) {
        Value::Case(0, Some(dir)) => Ok(*dir),
        Value::Case(1, Some(code)) => Err(bench.wit.error_code(&code)),
        _ => panic!(),
    };
    let (one, two) = (temp(&bench).unwrap(), temp(&bench).unwrap());
    is("quota", temp(&bench));
    let Value::Host(handle) = &one else { panic!() };
    let write = |v: &str| {
        bench.get(
            "writing#write",
            vec![Value::Host(handle.clone()), s("f"), data(v)],
        )
    };
    assert!(matches!(write("1234567890"), Value::Case(0, None)));
    assert!(matches!(write("12345678901"), Value::Case(1, _)));
    // another host's are left alone
    let other = super::Bench::new("fsx", grant);
    left(3);
    assert!(matches!(write("1"), Value::Case(0, None)));
    drop((one, two, other));
    left(2);
    let three = (0..500).find_map(|_| {
        std::thread::sleep(Duration::from_millis(10));
        temp(&bench).ok()
    });
    assert!(three.is_some());
    drop(three);
    drop(bench);
    left(1);
    let none = super::Bench::new("fsx", json!({}));
    is("not-permitted", temp(&none));
}

#[test]
fn streams_at_once_are_bounded() {
    let t = Tree::with_root(&[("f", "")], json!({"mode": "rw"}), json!({"max-streams": 2}));
    let open = || t.opened("streaming#read-stream", vec![s("f"), Value::u64(0)]);
    let (one, two) = (open().unwrap(), open().unwrap());
    is("quota", open().map(drop));
    is("quota", t.streamed("f", Value::Case(0, None), &[]));
    is("quota", t.walk(".", &[], false, false, None));
    drop(one);
    open().unwrap();
    drop(two);
}

#[test]
fn roots_do_not_lend_each_other_their_rights() {
    let folder = tempfile::TempDir::new().unwrap();
    for root in ["ro", "rw", "small"] {
        fs::create_dir(folder.path().join(root)).unwrap();
        fs::write(folder.path().join(root).join("f"), "12345").unwrap();
    }
    let root = |name: &str| folder.path().join(name);
    let bench = super::Bench::new(
        "fsx",
        json!({"roots": {
            "ro": {"path": root("ro")},
            "rw": {"path": root("rw"), "mode": "rw"},
            "small": {"path": root("small"), "mode": "rw", "max-bytes": 8},
        }}),
    );
    let handle = |name: &str| -> Arc<dyn std::any::Any + Send + Sync> {
        match bench.get("files#root", vec![s(name)]) {
            Value::Case(0, Some(v)) => match *v {
                Value::Host(root) => root,
                _ => panic!(),
            },
            _ => panic!(),
        }
    };
    let both = |function: &str, from: &str, to: &str| {
        let (from, to) = (Value::Host(handle(from)), Value::Host(handle(to)));
        match bench.get(&format!("writing#{function}"), vec![from, s("f"), to, s("g")]) {
            Value::Case(0, _) => Ok(()),
            Value::Case(1, Some(code)) => Err(bench.wit.error_code(&code)),
            _ => panic!(),
        }
    };
    is("read-only", both("rename", "ro", "rw"));
    is("read-only", both("link", "ro", "rw"));
    is("read-only", both("rename", "rw", "ro"));
    is("read-only", both("copy", "rw", "ro"));
    is("quota", both("rename", "rw", "small"));
    is("quota", both("link", "rw", "small"));
    is("quota", both("copy", "ro", "small"));
    both("copy", "ro", "rw").unwrap();
    both("rename", "small", "rw").unwrap();
    both("rename", "rw", "small").unwrap();
    assert_eq!(fs::read(root("small").join("g")).unwrap(), b"12345");
}
