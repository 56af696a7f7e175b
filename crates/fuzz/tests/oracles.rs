//! Every oracle on a fixed stream of random inputs, for a few seconds each; with `LOOP_FUZZ_SECONDS` for so long, on
//! other inputs each time.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use loop_fuzz::ORACLES;

#[global_allocator]
static MEMORY: loop_fuzz::Counting = loop_fuzz::Counting;

/// Inputs of each oracle, and the time after which it has had enough.
const COUNT: u64 = 20_000;
const TIME: Duration = Duration::from_secs(8);

#[test]
fn values_cross_as_in_wasmtime() {
    run("values");
}

#[test]
fn memory_is_lifted_as_in_wasmtime() {
    run("memory");
}

#[test]
fn text_reads_back() {
    run("text");
}

#[test]
fn link_survives_what_is_no_component() {
    run("link");
}

#[test]
fn wire_reads_back() {
    run("wire");
}

#[test]
fn session_survives_what_no_peer_says() {
    run("session");
}

#[test]
fn frames_are_the_same_however_they_are_cut() {
    run("frames");
}

#[test]
fn records_read_back() {
    run("records");
}

/// Where the input at work is kept: it is still there after a crash.
fn kept(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.input"))
}

fn run(name: &str) {
    let (_, oracle) = ORACLES.into_iter().find(|(n, _)| *n == name).expect("an oracle");
    if let Some(input) = std::env::var_os("LOOP_FUZZ_INPUT") {
        return oracle(&std::fs::read(input).expect("the input"));
    }
    let kept = kept(name);
    println!(
        "the input at work is in {0}; to repeat it:\n  LOOP_FUZZ_INPUT={0} cargo test --release -p loop-fuzz {name}",
        kept.display()
    );
    let (count, time, mut random) = match std::env::var("LOOP_FUZZ_SECONDS") {
        Ok(seconds) => {
            let now = SystemTime::UNIX_EPOCH.elapsed().expect("a time after 1970");
            let time = Duration::from_secs(seconds.parse().expect("seconds"));
            (u64::MAX, time, Random(now.as_nanos() as u64))
        }
        Err(_) => (COUNT, TIME, Random(0x6c6f_6f70_2d6b_6974)),
    };
    let start = Instant::now();
    let mut done = 0;
    while done < count && start.elapsed() < time {
        let input = random.bytes();
        std::fs::write(&kept, &input).expect("a file for the input");
        oracle(&input);
        done += 1;
    }
    println!("{name}: {done} inputs in {:.1} s", start.elapsed().as_secs_f64());
    let _ = std::fs::remove_file(kept);
}

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn bytes(&mut self) -> Vec<u8> {
        let words = self.next() % 96;
        (0..=words).flat_map(|_| self.next().to_le_bytes()).collect()
    }
}
