//! Text → validated plain structs, and importers of other formats.
//!
//! Must not do I/O beyond reading the file.
