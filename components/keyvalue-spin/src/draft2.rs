//! `wasi:keyvalue@0.2.0-draft2`.

use crate::Component;
use crate::exports::wasi::keyvalue0_2_0_draft2::atomics::{Cas, CasError, Guest as Atomics, GuestCas};
use crate::exports::wasi::keyvalue0_2_0_draft2::batch::Guest as Batch;
use crate::exports::wasi::keyvalue0_2_0_draft2::store::{
    Bucket, BucketBorrow, Error, Guest as Store, GuestBucket, KeyResponse,
};
use crate::wasi::keyvalue0_2_0_draft::{atomics, batch, store};

/// A bucket of the provider's.
pub struct Opened(store::Bucket);

/// Stands for what cannot be had.
pub struct Never;

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => Error::NoSuchStore,
            store::Error::AccessDenied => Error::AccessDenied,
            store::Error::Other(words) => Error::Other(words),
        }
    }
}

fn of<'a>(bucket: &'a BucketBorrow<'_>) -> &'a store::Bucket {
    &bucket.get::<Opened>().0
}

impl Store for Component {
    type Bucket = Opened;

    fn open(identifier: String) -> Result<Bucket, Error> {
        Ok(Bucket::new(Opened(store::open(&identifier)?)))
    }
}

impl GuestBucket for Opened {
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

    fn list_keys(&self, cursor: Option<String>) -> Result<KeyResponse, Error> {
        let cursor = match cursor.map(|text| text.parse()).transpose() {
            Ok(cursor) => cursor,
            Err(_) => {
                return Err(Error::Other(
                    "the cursor is none that `list-keys` has returned".into(),
                ));
            }
        };
        let page = self.0.list_keys(cursor)?;
        Ok(KeyResponse {
            keys: page.keys,
            cursor: page.cursor.map(|cursor| cursor.to_string()),
        })
    }
}

/// What both ways to a compare-and-swap say.
fn no_swap() -> Error {
    let why = "compare-and-swap is not served: `wasi:keyvalue@0.2.0-draft`, which keeps the values, has none";
    Error::Other(why.into())
}

impl Atomics for Component {
    type Cas = Never;

    fn increment(bucket: BucketBorrow<'_>, key: String, delta: i64) -> Result<i64, Error> {
        let Ok(delta) = u64::try_from(delta) else {
            let why = "a number is not made smaller: `wasi:keyvalue@0.2.0-draft`, which keeps it, only adds";
            return Err(Error::Other(why.into()));
        };
        let sum = atomics::increment(of(&bucket), &key, delta)?;
        i64::try_from(sum).map_err(|_| Error::Other("the number is larger than 63 bits hold".into()))
    }

    fn swap(_cas: Cas, _value: Vec<u8>) -> Result<(), CasError> {
        Err(CasError::StoreError(no_swap()))
    }
}

impl GuestCas for Never {
    fn new(_bucket: BucketBorrow<'_>, _key: String) -> Result<Cas, Error> {
        Err(no_swap())
    }

    fn current(&self) -> Result<Option<Vec<u8>>, Error> {
        Err(no_swap())
    }
}

impl Batch for Component {
    fn get_many(
        bucket: BucketBorrow<'_>,
        keys: Vec<String>,
    ) -> Result<Vec<(String, Option<Vec<u8>>)>, Error> {
        let found = batch::get_many(of(&bucket), &keys)?;
        let values = found.into_iter().map(|pair| pair.map(|(_, value)| value));
        Ok(keys.into_iter().zip(values).collect())
    }

    fn set_many(bucket: BucketBorrow<'_>, pairs: Vec<(String, Vec<u8>)>) -> Result<(), Error> {
        Ok(batch::set_many(of(&bucket), &pairs)?)
    }

    fn delete_many(bucket: BucketBorrow<'_>, keys: Vec<String>) -> Result<(), Error> {
        Ok(batch::delete_many(of(&bucket), &keys)?)
    }
}
