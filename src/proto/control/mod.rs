//! The control plane of one router: takes every input, hands it to the machine that it is for, and collects
//! what they want done.
//!
//! Owns: the inputs' and outputs' vocabulary, the demultiplexing of messages, and reloading. Must not decide
//! what a machine decides.

mod contract;
mod demux;
mod plane;
mod views;

pub use contract::{
    Command, Input, LigAnswer, LigError, Move, MoveError, MoveState, NeighbourState, Output, Place, Transmit,
};
pub use plane::ControlPlane;
pub use views::{DatabaseView, DdtSearch, DdtView, MobilityView, SiteView, SyncMember};
