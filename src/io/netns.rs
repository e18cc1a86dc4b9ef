//! The network namespace of the calling thread: which it is, and, for tests, a new one.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;

use nix::sched::{CloneFlags, unshare};

/// A number that the calling thread's network namespace alone has had since the machine was booted. On
/// kernels before 5.14, one that no other has that exists now.
pub fn current_id() -> io::Result<u64> {
    // The number of the file in /proc is reused as soon as a namespace is gone; the cookie never is.
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let socket = UnixDatagram::unbound()?;
    let mut cookie: u64 = 0;
    let mut length: libc::socklen_t = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the socket is open; `cookie` and `length` are valid for writes of the sizes announced, and the
    // kernel writes no more than `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        return Ok(cookie);
    }
    std::fs::metadata("/proc/thread-self/ns/net").map(|metadata| metadata.ino())
}

/// Moves the calling thread, and no other, into a new network namespace, which has nothing but a loopback
/// interface that is down. Needs CAP_SYS_ADMIN.
pub fn enter_new() -> io::Result<()> {
    Ok(unshare(CloneFlags::CLONE_NEWNET)?)
}
