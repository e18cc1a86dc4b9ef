//! Linux system calls: TUN, UDP, netlink, capabilities. Home of all unsafe code; knows nothing of LISP.

pub mod capabilities;
pub mod checksum;
pub mod clock;
mod control;
pub mod datagram;
pub mod icmp;
pub mod link;
pub mod netlink;
pub mod netns;
pub mod poll;
pub mod steering;
pub mod sysctl;
pub mod tun;
pub mod udp;
