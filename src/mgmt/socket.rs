//! Unix sockets that are made, replaced and removed with care.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::net::{UnixListener, UnixStream};

/// Why there is no socket. The last field is the configuration's name for it.
#[derive(Debug, Error)]
pub enum BindError {
    /// Another router has it.
    #[error("another router is running at {0}: stop it, or give this one its own {1}")]
    InUse(PathBuf, &'static str),
    /// Something that is not a socket is there.
    #[error("{0} is in the way of the {1}: remove it, or give another path")]
    NotASocket(PathBuf, &'static str),
    /// The system refused.
    #[error("can't make the socket {0}: {1}; give another {2} or its directory's rights")]
    Io(PathBuf, io::Error, &'static str),
}

/// A listening socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file that we made: another's is not removed.
    identity: (u64, u64),
    owner: u32,
}

impl Socket {
    /// Makes the socket at `path`, readable and writable as `mode` says from its first moment on. A socket
    /// that nobody listens at is replaced; missing directories are made. Must be called within a tokio
    /// runtime. `key` is what the configuration calls it.
    ///
    /// # Errors
    /// If there is no making it; nothing is changed then.
    pub fn bind(path: &Path, mode: u32, key: &'static str) -> Result<Self, BindError> {
        let failed = |error| BindError::Io(path.into(), error, key);
        if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(BindError::NotASocket(path.into(), key));
            }
            Ok(_) if StdStream::connect(path).is_ok() => return Err(BindError::InUse(path.into(), key)),
            _ => {}
        }
        // Made under another name, and renamed when its mode is right.
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(format!(".{}", std::process::id()));
        let temporary = PathBuf::from(temporary);
        let remove = |error| {
            let _ = fs::remove_file(&temporary);
            BindError::Io(path.into(), error, key)
        };
        let _ = fs::remove_file(&temporary);
        let listener = StdListener::bind(&temporary).map_err(failed)?;
        fs::set_permissions(&temporary, fs::Permissions::from_mode(mode)).map_err(remove)?;
        listener.set_nonblocking(true).map_err(remove)?;
        let listener = UnixListener::from_std(listener).map_err(remove)?;
        let made = fs::symlink_metadata(&temporary).map_err(remove)?;
        fs::rename(&temporary, path).map_err(remove)?;
        Ok(Self { listener, path: path.into(), identity: (made.dev(), made.ino()), owner: made.uid() })
    }

    /// The next client.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().await.map(|(stream, _)| stream)
    }

    /// Who made it: this process's user id.
    pub fn owner(&self) -> u32 {
        self.owner
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.identity);
        if ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}
