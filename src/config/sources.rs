//! Where secrets come from that the file does not contain itself.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use super::validate::MOST_BYTES;

/// What a configuration may look at besides its own text.
pub trait Sources {
    /// The value of an environment variable.
    fn variable(&self, name: &str) -> Option<Zeroizing<Vec<u8>>>;

    /// A key file. At most a little more than a key's greatest length is read.
    fn file(&self, path: &Path) -> io::Result<KeyFile>;
}

/// What was found in a key file.
#[derive(Debug)]
pub struct KeyFile {
    /// Its bytes.
    pub content: Zeroizing<Vec<u8>>,
    /// Its permission bits.
    pub mode: u32,
}

/// The machine's own environment and files.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Sources for System {
    fn variable(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        std::env::var_os(name).map(|value| Zeroizing::new(value.into_vec()))
    }

    fn file(&self, path: &Path) -> io::Result<KeyFile> {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        // Room for the line end after the longest secret, and for one byte more, which shows that it is too
        // long.
        let most = MOST_BYTES + 3;
        let mut content = Zeroizing::new(Vec::with_capacity(most));
        File::open(path)?.take(most as u64).read_to_end(&mut content)?;
        Ok(KeyFile { content, mode: metadata.mode() & 0o7777 })
    }
}
