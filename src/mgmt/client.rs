//! The asking end of the control socket: blocking, one request at a time.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::protocol::{Reply, Request, Versioned};

/// Longest reply that is read, in bytes: a map-cache of a million entries fits.
const LONGEST_REPLY: u64 = 1 << 30;

/// Why there is no reply, in a sentence that says what to do.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nothing is there, or nothing listens any more.
    #[error("no router is running at {0}: start one with `eidolon run`, or name its socket with --socket")]
    NotRunning(PathBuf),
    /// The socket's permissions.
    #[error("not permitted to talk to the router at {0}: use the account that it runs as, or root")]
    NotPermitted(PathBuf),
    /// No reply within the time allowed.
    #[error("the router at {0} did not answer within {1} s: it is overloaded or hangs, its log may say why")]
    TimedOut(PathBuf, u64),
    /// The router closed the connection without a reply.
    #[error("the router at {0} hung up: it has too many clients or was stopped, try again")]
    HungUp(PathBuf),
    /// What answered doesn't speak our protocol.
    #[error("what answers at {0} is no router of this version ({1}): use its own `eidolon` program")]
    NotUnderstood(PathBuf, String),
    /// The router could not do what was asked.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("can't talk to the router at {0}: {1}")]
    Io(PathBuf, io::Error),
}

/// Asks the router whose socket is at `path`, and waits at most `timeout` for each part of its reply.
/// [`Reply::Error`] comes back as [`ClientError::Refused`].
///
/// # Errors
/// Where there is no reply.
pub fn ask(path: &Path, request: &Request, timeout: Duration) -> Result<Reply, ClientError> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning(path.into()),
        io::ErrorKind::PermissionDenied => ClientError::NotPermitted(path.into()),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            ClientError::TimedOut(path.into(), timeout.as_secs())
        }
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ClientError::HungUp(path.into()),
        _ => ClientError::Io(path.into(), error),
    };
    let not_understood = |why: String| ClientError::NotUnderstood(path.into(), why);

    let mut stream = UnixStream::connect(path).map_err(failed)?;
    stream.set_read_timeout(Some(timeout)).map_err(failed)?;
    stream.set_write_timeout(Some(timeout)).map_err(failed)?;
    let mut line = serde_json::to_vec(&Versioned::new(request)).map_err(|e| not_understood(e.to_string()))?;
    line.push(b'\n');
    // A router that has too many clients says so and hangs up, perhaps before it took the request.
    let written = stream.write_all(&line);

    let mut reply = Vec::new();
    BufReader::new(stream).take(LONGEST_REPLY).read_until(b'\n', &mut reply).map_err(failed)?;
    if reply.is_empty() {
        written.map_err(failed)?;
        return Err(ClientError::HungUp(path.into()));
    }
    if reply.last() != Some(&b'\n') {
        return Err(ClientError::HungUp(path.into()));
    }
    let reply: Versioned<Reply> =
        serde_json::from_slice(&reply).map_err(|e| not_understood(e.to_string()))?;
    match reply.body {
        Reply::Error(why) => Err(ClientError::Refused(why)),
        body => Ok(body),
    }
}
