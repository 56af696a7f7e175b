//! Keeps values by `wasi:keyvalue@0.2.0-draft2` alone, as a component for Spin does.

wit_bindgen::generate!({
    path: ["../../wit/deps/keyvalue-draft2", "wit"],
    world: "test:keyvalue-draft2/guest",
    generate_all,
});

use exports::test::keyvalue_draft2::drive::Guest;
use wasi::keyvalue::atomics::{self, Cas, CasError};
use wasi::keyvalue::batch;
use wasi::keyvalue::store::{self, Error};

struct Component;

fn words(error: Error) -> String {
    match error {
        Error::NoSuchStore => "no such store".into(),
        Error::AccessDenied => "access denied".into(),
        Error::Other(words) => words,
    }
}

impl Guest for Component {
    fn visit(page: String) -> Result<u64, String> {
        let bucket = store::open("default").map_err(words)?;
        let count = atomics::increment(&bucket, &page, 1).map_err(words)?;
        u64::try_from(count).map_err(|_| "a negative number of visits".into())
    }

    fn sweep() -> Result<Vec<String>, String> {
        let bucket = store::open("default").map_err(words)?;
        let names: Vec<String> = (0..30).map(|number| format!("k{number}")).collect();
        let pairs: Vec<_> = names
            .iter()
            .map(|name| (name.clone(), name.clone().into_bytes()))
            .collect();
        batch::set_many(&bucket, &pairs).map_err(words)?;
        let mut asked = names.clone();
        asked.push("none".into());
        let got = batch::get_many(&bucket, &asked).map_err(words)?;
        let mut wanted: Vec<_> = pairs
            .into_iter()
            .map(|(name, value)| (name, Some(value)))
            .collect();
        wanted.push(("none".into(), None));
        if got != wanted {
            return Err("other values came back".into());
        }
        batch::delete_many(&bucket, &names[2..]).map_err(words)?;
        let (mut left, mut cursor) = (Vec::new(), None);
        loop {
            let page = bucket.list_keys(cursor.as_deref()).map_err(words)?;
            left.extend(page.keys);
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(left);
            }
        }
    }

    fn add(delta: i64) -> Result<i64, String> {
        let bucket = store::open("default").map_err(words)?;
        atomics::increment(&bucket, "number", delta).map_err(words)
    }

    fn swap() -> Result<(), String> {
        let bucket = store::open("default").map_err(words)?;
        let cas = Cas::new(&bucket, "k").map_err(words)?;
        match atomics::swap(cas, b"v") {
            Ok(()) => Ok(()),
            Err(CasError::StoreError(error)) => Err(words(error)),
            Err(CasError::CasFailed(_)) => Err("it was too old".into()),
        }
    }
}

export!(Component);
