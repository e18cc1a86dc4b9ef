//! Where log lines go and which are written.
//!
//! Every subsystem logs under the target of its module (`eidolon::proto::xtr`, …); [`LogConfig`] sets a
//! level for all and for single ones. Lines go to standard error. The levels can be changed while the router
//! runs, the format cannot.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use thiserror::Error;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{Level, LogConfig, LogFormat};

static FILTER: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Why logging could not be set up or changed.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// [`init`] was called a second time.
    #[error("logging is already set up in this process")]
    AlreadySet,
    /// [`apply`] was called before [`init`].
    #[error("logging is not set up")]
    NotSet,
}

/// Sets up logging for the whole process. Once only; later changes go through [`apply`].
pub fn init(config: &LogConfig) -> Result<(), LoggingError> {
    let (filter, handle) = reload::Layer::new(filter(config));
    let lines = match config.format {
        // Colours are for people; files and the journal get plain text.
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            fmt::layer().with_ansi(colours).with_writer(std::io::stderr).boxed()
        }
        LogFormat::Json => fmt::layer().json().with_writer(std::io::stderr).boxed(),
    };
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|_| LoggingError::AlreadySet)?;
    FILTER.set(handle).map_err(|_| LoggingError::AlreadySet)
}

/// Changes the levels to those of `config`. Its format is not looked at.
pub fn apply(config: &LogConfig) -> Result<(), LoggingError> {
    let handle = FILTER.get().ok_or(LoggingError::NotSet)?;
    handle.reload(filter(config)).map_err(|_| LoggingError::NotSet)
}

/// The filter that `config` asks for. Of two subsystems that contain each other, the more specific counts.
fn filter(config: &LogConfig) -> Targets {
    let filter = Targets::new()
        .with_default(level(config.level.min(Level::Warn)))
        // It warns of every answer that nobody waits for any more, as of a listing that was overtaken by an
        // event.
        .with_target("netlink_proto::connection", level(config.level.min(Level::Error)))
        .with_target("eidolon", level(config.level));
    filter.with_targets(config.levels.iter().map(|(subsystem, l)| (subsystem.target(), level(*l))))
}

const fn level(level: Level) -> LevelFilter {
    match level {
        Level::Off => LevelFilter::OFF,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level as L;

    use super::*;
    use crate::config::Subsystem;

    #[test]
    fn the_most_specific_subsystem_sets_the_level() {
        let f = filter(&LogConfig {
            level: Level::Info,
            levels: [(Subsystem::Control, Level::Warn), (Subsystem::Xtr, Level::Trace)].into(),
            format: LogFormat::Text,
        });
        assert!(f.would_enable("eidolon::runtime::clock", &L::INFO));
        assert!(!f.would_enable("eidolon::runtime::clock", &L::DEBUG));
        assert!(f.would_enable("eidolon::proto::xtr::itr", &L::TRACE));
        assert!(!f.would_enable("eidolon::proto::mapping_system", &L::INFO));
        assert!(f.would_enable("eidolon::proto::mapping_system", &L::WARN));
    }

    #[test]
    fn libraries_are_kept_to_warnings() {
        let f = filter(&LogConfig { level: Level::Trace, ..LogConfig::default() });
        assert!(f.would_enable("eidolon::dataplane", &L::TRACE));
        assert!(!f.would_enable("netlink_proto", &L::INFO));
        assert!(f.would_enable("netlink_proto", &L::WARN));
        let f = filter(&LogConfig { level: Level::Off, ..LogConfig::default() });
        assert!(!f.would_enable("netlink_proto", &L::ERROR));
    }
}
