//! Linux system calls: TUN, UDP, netlink, capabilities. Home of all unsafe code; knows nothing of LISP.

pub mod datagram;
