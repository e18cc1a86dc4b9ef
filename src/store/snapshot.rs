//! The file of the map-cache snapshot.
//!
//! A file of its own rather than a table of the [embedded database](super::embedded): a snapshot is written
//! and read as a whole, and replaced by the next one. In the database, a hundred thousand rows would have to
//! be compared or rewritten in a transaction that the few small records, which somebody waits for, would have
//! to wait for. Whole files need no database to be replaced safely: the new one is written beside the old
//! one, brought to the disk, and given its name, so that at every moment, power cuts included, the name
//! stands for one of the two, complete. What a disk does to it later is found out by its checksum.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::StoreError;

/// Name of the file in the state directory.
pub const SNAPSHOT_FILE: &str = "map-cache.snapshot";
/// What one is called that can't be used.
const ASIDE: &str = "map-cache.snapshot.bad";
/// What one is called that is being written. A crash may leave it, and the next one is written over it.
const UNFINISHED: &str = "map-cache.snapshot.new";
/// Longest file that is read, in bytes: ten million entries with a locator or two.
const LONGEST: u64 = 1 << 30;

/// Reads the file in the directory `dir`; `None` where there is none.
///
/// # Errors
/// If it can't be read, or is too long to be one.
pub fn read_snapshot(dir: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let path = dir.join(SNAPSHOT_FILE);
    let at_path = |error| StoreError::Io { path: path.clone(), error };
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at_path(error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(at_path)?;
    if read as u64 > LONGEST {
        return Err(StoreError::Database { path, reason: "it is too long to be a snapshot".into() });
    }
    Ok(Some(bytes))
}

/// Puts `bytes` in the place of the file in the directory `dir`. When this returns `Ok`, a power cut can't
/// undo it.
///
/// # Errors
/// If that was not possible: the old file, if there is one, is as it was.
pub fn write_snapshot(dir: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let unfinished = dir.join(UNFINISHED);
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, dir.join(SNAPSHOT_FILE))?;
        File::open(dir)?.sync_all()
    };
    write().map_err(|error| {
        // The room that it took is better used. It may not even exist.
        let _ = fs::remove_file(&unfinished);
        StoreError::Io { path: dir.join(SNAPSHOT_FILE), error }
    })
}

/// Removes the file in the directory `dir`, if there is one. When this returns `Ok`, a power cut can't undo
/// it. A full disk is no obstacle.
///
/// # Errors
/// If that was not possible.
pub fn remove_snapshot(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(SNAPSHOT_FILE);
    let remove = || match fs::remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.and_then(|()| File::open(dir)?.sync_all()),
    };
    remove().map_err(|error| StoreError::Io { path: path.clone(), error })
}

/// Gives the file in the directory `dir` another name, so that it is not read again, and whoever wants to can
/// look at it. One is kept: it takes the place of an earlier one.
///
/// # Errors
/// If that was not possible.
pub fn set_snapshot_aside(dir: &Path) -> Result<PathBuf, StoreError> {
    let aside = dir.join(ASIDE);
    fs::rename(dir.join(SNAPSHOT_FILE), &aside)
        .map_err(|error| StoreError::Io { path: dir.join(SNAPSHOT_FILE), error })?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn the_last_one_counts_and_nothing_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_snapshot(dir.path()).unwrap(), None);
        // A crash in the middle of writing left this.
        fs::write(dir.path().join(UNFINISHED), "longer than what follows").unwrap();
        write_snapshot(dir.path(), b"first").unwrap();
        write_snapshot(dir.path(), b"second").unwrap();
        assert_eq!(read_snapshot(dir.path()).unwrap().as_deref(), Some(&b"second"[..]));
        assert_eq!(names(dir.path()), [SNAPSHOT_FILE]);
    }

    #[test]
    fn where_nothing_can_be_written_the_old_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        write_snapshot(dir.path(), b"first").unwrap();
        // Nothing can be written under this name, root or not.
        fs::create_dir(dir.path().join(UNFINISHED)).unwrap();
        let error = write_snapshot(dir.path(), b"second").unwrap_err();
        assert!(error.to_string().contains(SNAPSHOT_FILE), "{error}");
        assert_eq!(read_snapshot(dir.path()).unwrap().as_deref(), Some(&b"first"[..]));
        let error = write_snapshot(Path::new("/proc/eidolon"), b"x").unwrap_err();
        assert!(error.remedy().contains("state-dir"), "{error}");
    }

    #[test]
    fn one_that_was_removed_is_not_read_again() {
        let dir = tempfile::tempdir().unwrap();
        write_snapshot(dir.path(), b"first").unwrap();
        remove_snapshot(dir.path()).unwrap();
        assert_eq!((read_snapshot(dir.path()).unwrap(), names(dir.path()).len()), (None, 0));
        remove_snapshot(dir.path()).unwrap();
        // A directory in its place can't be.
        fs::create_dir(dir.path().join(SNAPSHOT_FILE)).unwrap();
        assert!(remove_snapshot(dir.path()).is_err());
    }

    #[test]
    fn one_that_was_set_aside_is_not_read_again_and_only_the_last_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        for bytes in [&b"first"[..], b"second"] {
            write_snapshot(dir.path(), bytes).unwrap();
            let aside = set_snapshot_aside(dir.path()).unwrap();
            assert_eq!(fs::read(&aside).unwrap(), bytes);
            assert_eq!(read_snapshot(dir.path()).unwrap(), None);
            assert_eq!(names(dir.path()), [ASIDE]);
        }
        assert!(set_snapshot_aside(dir.path()).is_err(), "there is none");
    }
}
