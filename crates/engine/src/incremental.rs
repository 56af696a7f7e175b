//! Compiled functions in memory, for whoever compiles components over and over that differ in little.
//!
//! A build of a JavaScript component is the same interpreter each time with another snapshot of its memory, and one of a
//! Rust component has most of its functions from the build before. Cranelift finds by the hash of a function's
//! intermediate form (and of all settings) what it has made of it before.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;

use wasmtime::CacheStore;

use crate::scope::lock;

/// Bytes of each of two generations. A component of 3 MB has about 10 MiB of these.
const MOST: usize = 64 << 20;

/// Functions by the hash of what they were compiled from; what nobody has asked for in a while is forgotten.
#[derive(Default)]
pub(crate) struct Functions(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<Vec<u8>, Vec<u8>>,
    old: HashMap<Vec<u8>, Vec<u8>>,
    /// Bytes of the young.
    size: usize,
}

impl Generations {
    fn add(&mut self, key: Vec<u8>, code: Vec<u8>) {
        if self.size + code.len() > MOST {
            self.old = std::mem::take(&mut self.young);
            self.size = 0;
        }
        self.size += code.len();
        self.young.insert(key, code);
    }
}

impl CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let mut found = lock(&self.0);
        if let Some((key, code)) = found.old.remove_entry(key) {
            found.add(key, code);
        }
        found.young.get(key).map(|code| Cow::Owned(code.clone()))
    }

    fn insert(&self, key: &[u8], code: Vec<u8>) -> bool {
        lock(&self.0).add(key.to_vec(), code);
        true
    }
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Functions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_stays_and_the_rest_goes() {
        let kept = Functions::default();
        for n in 0..40_u8 {
            assert!(kept.insert(&[n], vec![n; MOST / 8]));
            assert_eq!(kept.get(&[0]).unwrap()[0], 0, "after {n}");
        }
        assert_eq!(kept.get(&[39]).unwrap()[0], 39);
        assert!(kept.get(&[20]).is_none());
        let held = lock(&kept.0);
        let all: usize = held.young.values().chain(held.old.values()).map(Vec::len).sum();
        assert!(all <= 2 * MOST, "{all}");
    }
}
