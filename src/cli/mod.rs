//! The command line.
//!
//! Owns: arguments, exit codes (0 fine, 1 a clear error, 2 wrong usage) and what is written to standard
//! output and error. Must not contain anything that a user of the library would want.

mod control;
pub mod decode;
pub mod output;
mod sim;

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand, ValueEnum};

use crate::config::{self, Report};
use crate::runtime;
use output::{err, out};

/// A user-space LISP (Locator/ID Separation Protocol) router: ITR, ETR, proxies of both, Map-Server, Map-Resolver and DDT
/// node, in any combination.
#[derive(Debug, Parser)]
#[command(name = "eidolon", version, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 fine, 1 an error, which standard error tells, 2 wrong usage.")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a router.
    ///
    /// Its log goes to standard error. SIGHUP has it read its configuration again, as `eidolon reload` does; SIGINT and
    /// SIGTERM end it, after it has undone what it did to the kernel.
    #[command(
        after_long_help = "Exit codes: 0 after SIGINT or SIGTERM, 1 after an error, which is the last thing on \
                                 standard error, 2 wrong usage."
    )]
    Run {
        /// Its configuration: TOML, or OpenLISP's format.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Say everything that is wrong with a configuration, without touching anything.
    Check {
        /// The configuration: TOML, or OpenLISP's format.
        file: PathBuf,
    },
    /// Convert another router's configuration to TOML, on standard output. The output contains its keys.
    Import {
        /// The format to read.
        #[arg(long, value_enum)]
        from: Format,
        /// The configuration to convert.
        file: PathBuf,
    },
    /// Show a running router's state.
    Show(control::Show),
    /// Make a running router forget something.
    Clear(control::Clear),
    /// Ask the mapping system for an EID's mapping, through a running router (RFC 6835).
    Lig(control::Lig),
    /// Change a locator of a running router, until it is reloaded or restarted.
    Set(control::Set),
    /// Say that an EID or EID-prefix is at this router's site now, as after a machine has moved.
    Move(control::Move),
    /// Make a running router read its configuration again. A file with errors changes nothing.
    Reload(control::Reload),
    /// Show LISP messages from a hex string or a capture.
    Decode(decode::DecodeArgs),
    /// Run a network of routers in virtual time, as a scenario says.
    Sim(sim::SimArgs),
}

/// Formats that can be imported.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// The three-section text file of the OpenLISP control plane.
    Openlisp,
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    match dispatch(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(text)) => {
            err(text);
            ExitCode::from(1)
        }
    }
}

/// Why a command failed, as shown to the user.
#[derive(Debug)]
struct Failure(String);

impl<E: fmt::Display> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl Failure {
    /// The failure of a command, which with `--json` is said on standard output, too: as an object with `error`.
    fn told(self, json: bool) -> Self {
        if json {
            out(format_args!("{:#}", serde_json::json!({ "error": self.0 })));
        }
        self
    }
}

/// Ends the process because of wrong usage of `command` that the argument parser can't see by itself.
fn usage(command: &str, why: &str) -> ! {
    let mut all = Arguments::command();
    // Only then do the subcommands know their full names.
    all.build();
    let command = all.find_subcommand_mut(command).cloned();
    command.unwrap_or(all).error(ErrorKind::ArgumentConflict, why).exit()
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run { config } => run(&config),
        Command::Check { file } => check(&file),
        Command::Import { from: Format::Openlisp, file } => import_openlisp(&file),
        Command::Show(args) => control::show(&args).map_err(|failure| failure.told(args.json)),
        Command::Clear(args) => control::clear(&args).map_err(|failure| failure.told(args.json)),
        Command::Lig(args) => control::lig(&args).map_err(|failure| failure.told(args.json)),
        Command::Set(args) => control::set(&args).map_err(|failure| failure.told(args.json)),
        Command::Move(args) => control::move_eid(&args).map_err(|failure| failure.told(args.json)),
        Command::Reload(args) => control::reload(&args).map_err(|failure| failure.told(args.json)),
        Command::Decode(args) => decode(args),
        Command::Sim(args) => sim::sim(&args),
    }
}

fn decode(args: decode::DecodeArgs) -> Result<(), Failure> {
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    let result = decode::run(args, &mut stdout);
    match stdout.flush() {
        // Nobody is left to be told when standard output is closed.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(decode::DecodeFailure::Output(error).into())
        }
        _ => Ok(result?),
    }
}

fn run(path: &Path) -> Result<(), Failure> {
    let loaded = config::load(path).map_err(with_summary)?;
    runtime::logging::init(&loaded.config.log)?;
    for warning in loaded.warnings.to_string().lines() {
        tracing::warn!(target: "eidolon::config", "{warning}");
    }
    runtime::run(path, loaded.config)?;
    Ok(())
}

fn check(path: &Path) -> Result<(), Failure> {
    let loaded = config::load(path).map_err(with_summary)?;
    if loaded.warnings.problems.is_empty() {
        out(format_args!("{}: fine", path.display()));
    } else {
        err(&loaded.warnings);
        out(format_args!("{}: fine, {}", path.display(), counts(&loaded.warnings)));
    }
    Ok(())
}

fn import_openlisp(path: &Path) -> Result<(), Failure> {
    let (toml, warnings) = config::import_openlisp(path).map_err(with_summary)?;
    if !warnings.problems.is_empty() {
        err(&warnings);
    }
    out(format_args!("# From {}. Contains keys: let nobody but the router read it.", path.display()));
    out(toml.trim_end());
    Ok(())
}

fn with_summary(report: Report) -> Failure {
    Failure(format!("{report}\n{}: not usable, {}", report.file.display(), counts(&report)))
}

fn counts(report: &Report) -> String {
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    match report.counts() {
        (errors, 0) => count(errors, "error"),
        (0, warnings) => count(warnings, "warning"),
        (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    }
}
