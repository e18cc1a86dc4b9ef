//! Waiting for several descriptors at once, without a timer: a thread with nothing to do costs nothing.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

/// An epoll instance. Descriptors leave it when they are closed.
#[derive(Debug)]
pub struct Poller {
    fd: OwnedFd,
}

/// What a descriptor is watched for. Errors and hang-ups are always told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// There is something to read.
    Read,
    /// Errors only.
    Errors,
}

/// A descriptor that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// What it was added as.
    pub token: u64,
    /// Whether there is an error or a hang-up.
    pub error: bool,
}

impl Poller {
    /// Most events that one call tells.
    const EVENTS: usize = 64;

    /// An epoll instance that watches nothing.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed; the descriptor that comes back is ours alone.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and owned by nobody else.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Watches `fd`, told as `token`.
    pub fn add(&self, fd: &impl AsFd, token: u64, interest: Interest) -> io::Result<()> {
        let events = match interest {
            Interest::Read => libc::EPOLLIN as u32,
            Interest::Errors => 0,
        };
        let mut event = libc::epoll_event { events, u64: token };
        self.control(libc::EPOLL_CTL_ADD, fd, &mut event)
    }

    /// Stops watching `fd`.
    pub fn remove(&self, fd: &impl AsFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, &mut libc::epoll_event { events: 0, u64: 0 })
    }

    fn control(&self, op: i32, fd: &impl AsFd, event: &mut libc::epoll_event) -> io::Result<()> {
        // SAFETY: `event` is a valid epoll_event for the length of the call; both descriptors are open.
        let done = unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), op, fd.as_fd().as_raw_fd(), event) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Replaces `ready` by what is ready: waits until something is, or only looks where `block` is not set.
    pub fn wait(&self, block: bool, ready: &mut Vec<Ready>) -> io::Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; Self::EVENTS];
        ready.clear();
        let timeout = if block { -1 } else { 0 };
        let count = loop {
            // SAFETY: `events` has room for as many events as the kernel is told.
            let count = unsafe {
                libc::epoll_wait(self.fd.as_raw_fd(), events.as_mut_ptr(), Self::EVENTS as i32, timeout)
            };
            match usize::try_from(count) {
                Ok(count) => break count,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != io::ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        };
        let bad = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
        ready.extend(events.iter().take(count).map(|e| Ready { token: e.u64, error: e.events & bad != 0 }));
        Ok(())
    }
}

/// Wakes threads that wait in a [`Poller`], for good: once set it stays set.
#[derive(Clone, Debug)]
pub struct StopSignal {
    fd: Arc<OwnedFd>,
}

impl StopSignal {
    /// A signal that is not set.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed; the descriptor that comes back is ours alone.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, and owned by nobody else.
        Ok(Self { fd: Arc::new(unsafe { OwnedFd::from_raw_fd(fd) }) })
    }

    /// Sets it: every poller that watches it for [`Interest::Read`] finds it ready from now on.
    pub fn set(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight valid bytes. The write can fail only if the counter would overflow, and then it is
        // set already.
        unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

impl AsFd for StopSignal {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_signal_wakes_every_poller_and_stays() {
        let stop = StopSignal::new().unwrap();
        let pollers = [Poller::new().unwrap(), Poller::new().unwrap()];
        let mut ready = Vec::new();
        for poller in &pollers {
            poller.add(&stop, 7, Interest::Read).unwrap();
            poller.wait(false, &mut ready).unwrap();
            assert_eq!(ready, []);
        }
        let waiting = std::thread::spawn({
            let poller = Poller::new().unwrap();
            poller.add(&stop, 8, Interest::Read).unwrap();
            move || {
                let mut ready = Vec::new();
                poller.wait(true, &mut ready).unwrap();
                ready
            }
        });
        stop.set();
        assert_eq!(waiting.join().unwrap(), [Ready { token: 8, error: false }]);
        for poller in &pollers {
            for _ in 0..2 {
                poller.wait(true, &mut ready).unwrap();
                assert_eq!(ready, [Ready { token: 7, error: false }]);
            }
        }
    }
}
