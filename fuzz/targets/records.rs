#![no_main]

#[global_allocator]
static MEMORY: loop_fuzz_wire::Counting = loop_fuzz_wire::Counting;

libfuzzer_sys::fuzz_target!(|data: &[u8]| loop_fuzz_wire::records(data));
