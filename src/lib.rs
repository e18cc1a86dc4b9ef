//! Eidolon: a user-space LISP (Locator/ID Separation Protocol, RFC 9299–9306) tunnel router.
//!
//! Everything that decides is pure, everything that touches the world is thin. Protocol machines and packet
//! transformations are plain functions of (state, input, now); small layers around them do the I/O.
//!
//! | module | owns | must not touch |
//! | --- | --- | --- |
//! | [`types`] | EIDs, RLOCs, mappings, nonces, time | bytes, clocks, I/O |
//! | [`wire`] | bytes ⇄ messages, views of data packets, messages in readable form | keys, clocks, policy |
//! | [`auth`] | keyed MACs over encoded spans, key derivation, replay windows | sockets, policy |
//! | [`fib`] | between control and data plane: prefix → action, punts, counters | TTLs, nonces, messages |
//! | [`proto`] | sans-IO machines: xTR, mapping system, `control` | sockets, threads, clocks, files |
//! | [`dataplane`] | packets in → packets out: LISP headers, path choice, MTU | proto, auth, sockets |
//! | `io` | Linux system calls, home of all unsafe code: TUN, UDP, frames, netlink | LISP semantics |
//! | `store` | what survives a restart: an embedded database by default | protocol decisions |
//! | `runtime` | threads, event loops, clock, signals, FIB publication, kernel | protocol decisions |
//! | `config` | text → validated plain structs; importers of other formats | I/O beyond the file |
//! | `mgmt` | control socket, views and tables for `show` | live mutable state |
//! | `sim` | `proto` and `dataplane` in virtual time; scenarios and figures | sockets, threads, clocks |
//! | `cli` | the command line | everything that a library user would want |
//!
//! The life of a packet from the site:
//! `runtime::data_loop → io::tun → dataplane::encap → fib → dataplane::batch → io::udp`;
//! of one from the core: `runtime::data_loop → io::udp → dataplane::decap → fib → io::tun`.
//! The life of a miss: `dataplane::encap → fib::Punt → runtime::control_loop → proto::control →
//! proto::xtr::itr → Map-Request … Map-Reply → fib::FibUpdate → runtime → fib`.

pub mod auth;
pub mod dataplane;
pub mod fib;
pub mod proto;
pub mod types;
pub mod wire;

#[cfg(feature = "router")]
pub mod cli;
#[cfg(feature = "router")]
pub mod config;
#[cfg(feature = "router")]
#[allow(unsafe_code)]
pub mod io;
#[cfg(feature = "router")]
pub mod mgmt;
#[cfg(feature = "router")]
pub mod runtime;
#[cfg(feature = "router")]
pub mod sim;
#[cfg(feature = "router")]
pub mod store;
