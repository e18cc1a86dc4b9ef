//! The `eidolon` binary; everything lives in the library.

fn main() {}
