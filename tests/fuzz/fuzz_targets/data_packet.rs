#![no_main]

#[path = "../data_plane.rs"]
mod data_plane;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| data_plane::data_packet(bytes));
