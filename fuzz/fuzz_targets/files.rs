#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| p2pcore_driver::fuzz::files(data));
