//! `fermyon:spin/key-value@2.0.0`.

use crate::Component;
use crate::exports::fermyon::spin::key_value::{Error, Guest, GuestStore, Store};
use crate::wasi::keyvalue0_2_0_draft::store;

/// Keys that `get-keys` returns at most: it has no pages, and what it returns is held at once.
const MOST: usize = 100_000;

/// A bucket of the provider's.
pub struct Opened(store::Bucket);

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => Error::NoSuchStore,
            store::Error::AccessDenied => Error::AccessDenied,
            store::Error::Other(words) => Error::Other(words),
        }
    }
}

impl Guest for Component {
    type Store = Opened;
}

impl GuestStore for Opened {
    fn open(label: String) -> Result<Store, Error> {
        Ok(Store::new(Opened(store::open(&label)?)))
    }

    fn get(&self, key: String) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.0.get(&key)?)
    }

    fn set(&self, key: String, value: Vec<u8>) -> Result<(), Error> {
        Ok(self.0.set(&key, &value)?)
    }

    fn delete(&self, key: String) -> Result<(), Error> {
        Ok(self.0.delete(&key)?)
    }

    fn exists(&self, key: String) -> Result<bool, Error> {
        Ok(self.0.exists(&key)?)
    }

    fn get_keys(&self) -> Result<Vec<String>, Error> {
        let (mut keys, mut cursor) = (Vec::new(), None);
        loop {
            let page = self.0.list_keys(cursor)?;
            keys.extend(page.keys);
            if keys.len() > MOST {
                return Err(Error::Other(format!(
                    "more than {MOST} keys, which `get-keys` returns at once"
                )));
            }
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(keys);
            }
        }
    }
}
