//! Linux system calls: TUN, UDP, netlink, capabilities. Home of all unsafe code; knows nothing of LISP.

pub mod capabilities;
pub mod datagram;
pub mod netlink;
pub mod netns;
pub mod sysctl;
