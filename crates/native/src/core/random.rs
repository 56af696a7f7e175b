//! Randomness: secure, fast, and seeded.

use std::sync::{Arc, Mutex, PoisonError};

use loop_engine::{Error, Import, Neutral, Num, Result, Value};

use super::quota::{Held, Quota};
use crate::value::args;

/// xoshiro256++ 1.0 by Blackman and Vigna.
pub(super) struct Xoshiro([u64; 4]);

impl Xoshiro {
    /// The state is what SplitMix64 makes of the seed.
    pub(super) fn new(seed: u64) -> Self {
        let mut at = seed;
        Xoshiro(std::array::from_fn(|_| {
            at = at.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (at ^ (at >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }))
    }

    /// One that starts anywhere.
    pub(super) fn anywhere() -> Self {
        // a system without randomness has a clock at least; nobody relies on this to be secret
        Xoshiro::new(getrandom::u64().unwrap_or(0))
    }

    pub(super) fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let next = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        next
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A generator that several calls may ask at once.
pub(super) struct Shared(Mutex<Xoshiro>);

impl Shared {
    pub(super) fn anywhere() -> Arc<Self> {
        Arc::new(Shared(Mutex::new(Xoshiro::anywhere())))
    }

    pub(super) fn with<R>(&self, f: impl FnOnce(&mut Xoshiro) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A generator of a seed.
struct Generator {
    numbers: Shared,
    _held: Held,
}

type Functions = Vec<(&'static str, Import<Neutral>)>;

/// The functions of `random` and `insecure-random`; one answer has at most `payload` bytes.
pub(super) fn functions(payload: usize, quota: Quota) -> Functions {
    let asked = move |len: &Value| {
        let len = len.as_u64()? as usize;
        if len > payload {
            return Err(Error::msg(format!(
                "{len} random bytes asked for, the payload limit is {payload}"
            )));
        }
        Ok(vec![0; len])
    };
    let fast = Shared::anywhere();
    let numbers = fast.clone();
    vec![
        (
            "random#bytes",
            Import::now(move |a| {
                let [len] = args(a)?;
                let mut bytes = asked(&len)?;
                getrandom::fill(&mut bytes)?;
                Ok(Some(Value::bytes(bytes)))
            }),
        ),
        (
            "random#u64",
            Import::now(|_| Ok(Some(Value::u64(getrandom::u64()?)))),
        ),
        (
            "insecure-random#insecure-bytes",
            Import::now(move |a| {
                let [len] = args(a)?;
                let mut bytes = asked(&len)?;
                fast.with(|numbers| numbers.fill(&mut bytes));
                Ok(Some(Value::bytes(bytes)))
            }),
        ),
        (
            "insecure-random#insecure-u64",
            Import::now(move |_| Ok(Some(Value::u64(numbers.with(Xoshiro::next))))),
        ),
        (
            "insecure-random#[constructor]generator",
            Import::now(move |a| {
                let [seed] = args(a)?;
                let _held = quota.take()?;
                let numbers = Shared(Mutex::new(Xoshiro::new(seed.as_u64()?)));
                Ok(Some(Value::host(Generator { numbers, _held })))
            }),
        ),
        (
            "insecure-random#[method]generator.next-u64",
            method(|numbers| Value::u64(numbers.next())),
        ),
        (
            "insecure-random#[method]generator.next-fraction",
            method(|numbers| Value::Num(Num::F64, numbers.fraction().to_bits())),
        ),
        (
            "insecure-random#[method]generator.next-bytes",
            Import::now(move |a| {
                let [generator, len] = args(a)?;
                let mut bytes = asked(&len)?;
                generator
                    .as_host::<Generator>()?
                    .numbers
                    .with(|numbers| numbers.fill(&mut bytes));
                Ok(Some(Value::bytes(bytes)))
            }),
        ),
    ]
}

fn method(f: impl Fn(&mut Xoshiro) -> Value + Send + Sync + 'static) -> Import<Neutral> {
    Import::now(move |a| -> Result<Option<Value>> {
        let [generator] = args(a)?;
        Ok(Some(generator.as_host::<Generator>()?.numbers.with(&f)))
    })
}
