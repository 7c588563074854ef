#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mcpauth_fuzz_targets::proxy_config(data));
