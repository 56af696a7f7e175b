//! What a grant lacks, told to whoever runs the host: WASI's error codes have no room for it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Level, Observer, Record};

/// Different words that one provider says at most: names come from the component.
const MOST: usize = 64;

/// Logs warnings as if the component had, each once.
pub(crate) struct Hints {
    observer: Arc<dyn Observer>,
    target: &'static str,
    said: Mutex<HashSet<String>>,
}

impl Hints {
    /// `target`: the package that refuses.
    pub fn new(observer: Arc<dyn Observer>, target: &'static str) -> Arc<Self> {
        Arc::new(Hints {
            observer,
            target,
            said: Mutex::default(),
        })
    }

    pub fn say(&self, words: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= MOST || !said.insert(words.to_string()) {
            return;
        }
        drop(said);
        self.observer.log(Record {
            level: Level::Warn,
            target: self.target.into(),
            message: words.into(),
            fields: vec![],
            shortened: false,
            trace: None,
        });
    }
}

/// A name that a component gave, as it may stand in a line of words.
pub(crate) fn named(name: &str) -> String {
    let short: String = name.chars().take(64).collect();
    short.escape_debug().to_string()
}
