//! Redundancy of the routers of one site.
//!
//! Owns: [`vrrp`], the election of the router that has the site's virtual gateway, which is independent of
//! LISP: it works for any router, and the control plane does not know of it; [`sync`], by which all of them
//! know what one of them has learnt; and [`snapshot`], the map-cache as it survives a restart.

pub mod snapshot;
pub mod sync;
pub mod vrrp;
