//! Kernel integration, against this machine's kernel: every test in network namespaces of its own, which
//! vanish with the threads that made them. Needs root, and `ip` (iproute2) and `setpriv` (util-linux).
#![cfg(feature = "router")]

mod interfaces;
mod interworking;
mod moved;
mod packets;
mod routing;
mod scenery;
mod start_up;
mod sysctls;
