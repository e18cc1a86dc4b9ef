//! TUN devices: packets to and from the kernel's routing.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};

/// One queue of a TUN device. The device goes when its last queue is closed.
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
    vnet: bool,
}

impl Tun {
    /// The longest name of an interface.
    pub const MAX_NAME: usize = 15;

    /// Creates the device `name` with one queue, whose packets come one by one and without any header before them.
    pub fn open_plain(name: &str) -> io::Result<Self> {
        check_name(name)?;
        let device = tun_tap::Iface::without_packet_info(name, tun_tap::Mode::Tun)?;
        let actual = device.name().to_owned();
        // SAFETY: the descriptor was given up by its owner in this very expression.
        let file = unsafe { File::from_raw_fd(device.into_raw_fd()) };
        set_nonblocking(&file)?;
        Ok(Self { file, name: actual, vnet: false })
    }

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a virtio-net header precedes each packet.
    pub fn has_vnet_header(&self) -> bool {
        self.vnet
    }

    /// Reads one packet, without waiting, and gives its length.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Writes one packet.
    pub fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        (&self.file).write_vectored(parts).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn check_name(name: &str) -> io::Result<()> {
    let fits = !name.is_empty() && name.len() <= Tun::MAX_NAME && !name.contains(['/', '%', '\0', ' ']);
    if fits {
        return Ok(());
    }
    let reason = format!(
        "{name:?} can't be an interface name: 1 to {} characters, none of them '/', '%' or a blank",
        Tun::MAX_NAME
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

fn set_nonblocking(file: &File) -> io::Result<()> {
    // SAFETY: no memory is passed.
    let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
    // SAFETY: no memory is passed.
    if flags < 0 || unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_change_are_refused() {
        for name in ["", "a/b", "tun%d", "sixteen-letters-x", "a b"] {
            assert_eq!(Tun::open_plain(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn a_device_appears_and_goes_with_its_queue() {
        let name = format!("eid{}", std::process::id());
        let path = format!("/sys/class/net/{name}");
        let tun = Tun::open_plain(&name).expect("the tests need CAP_NET_ADMIN and /dev/net/tun");
        assert_eq!((tun.name(), tun.has_vnet_header()), (name.as_str(), false));
        assert!(std::path::Path::new(&path).exists());
        assert_eq!(tun.read(&mut [0; 100]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(tun);
        assert!(!std::path::Path::new(&path).exists());
    }
}
