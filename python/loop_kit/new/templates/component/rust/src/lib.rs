//! What `interface words` in wit/words.wit promises.

use std::cmp::Reverse;
use std::collections::HashMap;

use exports::acme::words::words::Guest;

wit_bindgen::generate!({ path: "wit", world: "component" });

struct Words;

impl Guest for Words {
    fn count(text: String) -> Vec<(String, u32)> {
        let mut counts = HashMap::<&str, u32>::new();
        for word in text.split_whitespace() {
            *counts.entry(word).or_default() += 1;
        }
        let mut sorted: Vec<_> = counts.into_iter().collect();
        sorted.sort_unstable_by_key(|&(word, count)| (Reverse(count), word));
        sorted.into_iter().map(|(word, count)| (word.to_owned(), count)).collect()
    }
}

export!(Words);
