#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| loop_fuzz::wire(data));
