//! TUN devices: packets to and from the kernel's routing.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};

/// One queue of a TUN device. The device goes when its last queue is closed.
#[derive(Debug)]
pub struct Tun {
    file: File,
    name: String,
    offloads: Option<Offloads>,
}

/// What a device with offloads takes and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// Super-packets of UDP datagrams, beside those of TCP segments. Linux has it since 6.2.
    pub udp: bool,
}

impl Tun {
    /// The longest name of an interface.
    pub const MAX_NAME: usize = 15;

    /// Creates the device `name` with one queue, whose packets come one by one and without any header before
    /// them.
    pub fn open_plain(name: &str) -> io::Result<Self> {
        check_name(name)?;
        let device = tun_tap::Iface::without_packet_info(name, tun_tap::Mode::Tun)?;
        let actual = device.name().to_owned();
        // SAFETY: the descriptor was given up by its owner in this very expression.
        let file = unsafe { File::from_raw_fd(device.into_raw_fd()) };
        set_nonblocking(&file)?;
        Ok(Self { file, name: actual, offloads: None })
    }

    /// Opens a queue of the device `name`, which is created by the first, with segmentation and checksum
    /// offloads: a virtio-net header of [`Self::VNET_HEADER`] bytes precedes each packet, and packets may be
    /// super-packets. `shared`: there will be several queues.
    ///
    /// Kernels and containers may refuse: [`io::ErrorKind::InvalidInput`].
    pub fn open_offload(name: &str, shared: bool) -> io::Result<Self> {
        check_name(name)?;
        let file = File::options().read(true).write(true).open("/dev/net/tun")?;
        let mut flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if shared {
            flags |= libc::IFF_MULTI_QUEUE;
        }
        // SAFETY: an ifreq may be all zero.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as _;
        }
        request.ifr_ifru.ifru_flags = flags as _;
        // SAFETY: the request is a valid ifreq, which the kernel reads and writes, with a name that ends in
        // zero.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
        let size = Self::VNET_HEADER as libc::c_int;
        // SAFETY: the argument is a valid int, which the kernel reads.
        check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) })?;
        let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        let set = |offloads: libc::c_uint| {
            // SAFETY: the argument is a number, not a pointer.
            check(unsafe {
                libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads))
            })
        };
        let udp = set(tcp | libc::TUN_F_USO4 | libc::TUN_F_USO6).is_ok();
        if !udp {
            set(tcp)?;
        }
        set_nonblocking(&file)?;
        Ok(Self { file, name: name.to_owned(), offloads: Some(Offloads { udp }) })
    }

    /// Length of the header before each packet of a device with offloads.
    pub const VNET_HEADER: usize = 10;

    /// The device's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The offloads; `None` for a plain device. With them a virtio-net header precedes each packet.
    pub fn offloads(&self) -> Option<Offloads> {
        self.offloads
    }

    /// Reads one packet and what precedes it, without waiting, and gives the length of both.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// Writes one packet and what precedes it.
    pub fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        (&self.file).write_vectored(parts).map(drop)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for Tun {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
        assert_eq!((tun.name(), tun.offloads()), (name.as_str(), None));
        assert!(std::path::Path::new(&path).exists());
        assert_eq!(tun.read(&mut [0; 100]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(tun);
        assert!(!std::path::Path::new(&path).exists());
    }

    #[test]
    fn offloads_are_there_with_one_queue_and_with_several() {
        for shared in [false, true] {
            let name = format!("eio{}{shared}", std::process::id() % 100_000);
            let name = &name[..name.len().min(Tun::MAX_NAME)];
            let tun = Tun::open_offload(name, shared).expect("the tests need CAP_NET_ADMIN and /dev/net/tun");
            assert!(tun.offloads().is_some());
            assert_eq!(tun.read(&mut [0; 100]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            assert_eq!(Tun::open_offload(name, shared).is_ok(), shared, "a second queue");
        }
    }
}
