#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tickstream_fuzz::collector(bytes));
