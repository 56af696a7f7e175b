#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| loop_fuzz::values(data));
