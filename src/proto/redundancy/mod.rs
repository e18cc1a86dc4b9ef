//! Redundancy of the routers of one site.
//!
//! Owns: [`vrrp`], the election of the router that has the site's virtual gateway. Independent of LISP: it works for any
//! router, and the control plane does not know of it.

pub mod vrrp;
