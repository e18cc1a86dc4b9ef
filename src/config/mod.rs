//! Text → validated plain structs, and importers of other formats.
//!
//! Owns: the TOML format of `configs/reference.toml`, every check that a file can undergo before anything is
//! touched, and the reading of keys from files and environment. Must not do I/O beyond the file and the keys that it
//! names.

mod model;

pub use model::*;
