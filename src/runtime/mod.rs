//! Threads, event loops, clock, signals, FIB publication, kernel integration. Takes no protocol decisions.

pub mod clock;
pub mod data_loop;
pub mod kernel;
pub mod logging;

use std::path::Path;

use thiserror::Error;

use crate::config::Config;

/// Why the router could not start or had to stop, in a sentence that says what to do.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct RunError(pub String);

/// Runs the router that `config`, read from the file at `path`, describes, until it is told to stop. The path is read
/// again on reload.
pub fn run(path: &Path, config: Config) -> Result<(), RunError> {
    let _ = config;
    Err(RunError(format!("{}: this build has no event loop yet", path.display())))
}
