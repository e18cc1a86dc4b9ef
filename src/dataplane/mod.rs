//! Packets in → packets out: encapsulation, decapsulation, path choice, MTU, segmentation and coalescing, counters.
//!
//! Must not touch proto, auth or sockets.
