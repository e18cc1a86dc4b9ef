//! Views as the tables that router engineers know.

mod ddt;
mod dynamic;
mod locators;
mod mapping_system;
mod resolvers;
mod sync;
#[cfg(test)]
mod tests;
mod text;
mod vrrp;
mod xtr;

pub use ddt::ddt;
pub use dynamic::{dynamic_eids, moved};
pub use locators::locators;
pub use mapping_system::sites;
pub use resolvers::resolvers;
pub use sync::sync;
pub use text::{age, append, interval, table};
pub use vrrp::vrrp;
pub use xtr::{database, interfaces, lig, map_cache, map_cache_detail, pending, statistics};
