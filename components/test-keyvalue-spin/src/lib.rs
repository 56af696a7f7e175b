//! Keeps values by `fermyon:spin/key-value@2.0.0` alone, as a component for Spin does.

wit_bindgen::generate!({
    path: ["../../wit/deps/spin-2.0", "wit"],
    world: "test:keyvalue-spin/guest",
    generate_all,
});

use exports::test::keyvalue_spin::drive::Guest;
use fermyon::spin::key_value::{Error, Store};

struct Component;

fn words(error: Error) -> String {
    match error {
        Error::StoreTableFull => "too many stores".into(),
        Error::NoSuchStore => "no such store".into(),
        Error::AccessDenied => "access denied".into(),
        Error::Other(words) => words,
    }
}

impl Guest for Component {
    fn visit(page: String) -> Result<u64, String> {
        let store = Store::open("default").map_err(words)?;
        let old = store.get(&page).map_err(words)?.unwrap_or_default();
        let count: u64 = String::from_utf8_lossy(&old).parse().unwrap_or(0);
        store
            .set(&page, (count + 1).to_string().as_bytes())
            .map_err(words)?;
        Ok(count + 1)
    }

    fn sweep() -> Result<Vec<String>, String> {
        let store = Store::open("default").map_err(words)?;
        let names: Vec<String> = (0..30).map(|number| format!("k{number}")).collect();
        for name in &names {
            store.set(name, name.as_bytes()).map_err(words)?;
        }
        for name in &names[2..] {
            if !store.exists(name).map_err(words)? {
                return Err(format!("{name} is not there"));
            }
            store.delete(name).map_err(words)?;
        }
        store.get_keys().map_err(words)
    }
}

export!(Component);
