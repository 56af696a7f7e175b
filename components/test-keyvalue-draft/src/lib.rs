//! Keeps values by `wasi:keyvalue@0.2.0-draft` alone, as a component for wasmCloud does.

wit_bindgen::generate!({
    path: ["../../python/loop_kit/capabilities/keyvalue/wit", "wit"],
    world: "test:keyvalue-draft/guest",
    generate_all,
});

use exports::test::keyvalue_draft::drive::Guest as Drive;
use exports::wasi::keyvalue::watcher::Guest as Watcher;
use wasi::keyvalue::store::{self, Bucket, Error};
use wasi::keyvalue::{atomics, batch};

struct Component;

fn words(error: Error) -> String {
    match error {
        Error::NoSuchStore => "no such store".into(),
        Error::AccessDenied => "access denied".into(),
        Error::Other(words) => words,
    }
}

impl Drive for Component {
    fn visit(page: String) -> Result<u64, String> {
        let bucket = store::open("default").map_err(words)?;
        atomics::increment(&bucket, &page, 1).map_err(words)
    }

    fn sweep() -> Result<Vec<String>, String> {
        let bucket = store::open("default").map_err(words)?;
        let names: Vec<String> = (0..30).map(|number| format!("k{number}")).collect();
        let pairs: Vec<_> = names
            .iter()
            .map(|name| (name.clone(), name.clone().into_bytes()))
            .collect();
        batch::set_many(&bucket, &pairs).map_err(words)?;
        let got = batch::get_many(&bucket, &names).map_err(words)?;
        if got != pairs.into_iter().map(Some).collect::<Vec<_>>() {
            return Err("other values came back".into());
        }
        batch::delete_many(&bucket, &names[2..]).map_err(words)?;
        let (mut left, mut cursor) = (Vec::new(), None);
        loop {
            let page = bucket.list_keys(cursor).map_err(words)?;
            left.extend(page.keys);
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(left);
            }
        }
    }
}

/// Notes each change in the bucket `seen`: its number, and what was there when it was told.
fn note(bucket: &Bucket, what: String, key: &str) {
    let now = bucket.get(key).expect("the bucket can be read");
    let seen = store::open("seen").expect("there is a bucket `seen`");
    let number = atomics::increment(&seen, "count", 1).expect("it can be counted");
    let text = format!("{what}, now {now:?}");
    seen.set(&format!("{number}"), text.as_bytes())
        .expect("it can be noted");
}

impl Watcher for Component {
    fn on_set(bucket: Bucket, key: String, value: Vec<u8>) {
        assert_ne!(key, "trap", "it was told to");
        note(&bucket, format!("set {key} {value:?}"), &key);
    }

    fn on_delete(bucket: Bucket, key: String) {
        note(&bucket, format!("deleted {key}"), &key);
    }
}

export!(Component);
