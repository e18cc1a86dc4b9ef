//! Threads, event loops, clock, signals, FIB publication, kernel integration. Takes no protocol decisions.

pub mod clock;
mod control_loop;
mod control_sockets;
pub mod data_loop;
mod event_log;
pub mod external;
mod forwarding;
mod keeper;
pub mod kernel;
pub mod logging;
mod moves;
mod reload;
mod roles;
mod snapshots;
mod start;
mod views;
mod vrrp;

use std::path::Path;

use thiserror::Error;

use crate::config::Config;

/// Why the router could not start or had to stop, in a sentence that says what to do.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct RunError(pub String);

impl RunError {
    /// From anything whose text says what to do.
    fn from_display(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Runs the router that `config`, read from the file at `path`, describes, until it is told to stop by SIGINT or
/// SIGTERM. The path is read again on reload. Logging must have been set up.
///
/// # Errors
/// If the router can't start, in which case everything is as before; or if it can't go on, or not undo what it did to
/// the kernel.
pub fn run(path: &Path, config: Config) -> Result<(), RunError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| RunError(format!("can't make an event loop: {error}")))?;
    let result = runtime.block_on(async { start::start(path, config).await?.run().await });
    // A DNS lookup that hangs is not waited for.
    runtime.shutdown_background();
    result
}
