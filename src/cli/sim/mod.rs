//! `eidolon sim`: runs a scenario, and shows what came of it.

mod plot;
mod report;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::Failure;
use super::output::out;
use crate::sim::{Entry, Observer, Scenario, run};
use crate::types::Instant;

/// Arguments of `eidolon sim`.
#[derive(Debug, Args)]
pub(super) struct SimArgs {
    /// The scenario, as those in configs/sim.
    scenario: PathBuf,
    /// Show every figure of every run as JSON.
    #[arg(long)]
    json: bool,
    /// Seed of the first run of each case, instead of the scenario's.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Runs of each case, instead of the scenario's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: Option<u32>,
    /// Write a bar chart of what the scenario wants plotted.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Write everything that happens: time in seconds, node, what, kind, length of the IP packet, and how
    /// many of these it makes at the node, separated by tabs.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

/// Runs a scenario and writes its figures to standard output.
pub(super) fn sim(args: &SimArgs) -> Result<(), Failure> {
    let scenario = Scenario::load(&args.scenario)?;
    let mut watch = Watch::new(scenario.duration.as_secs_f64(), args.log.as_deref())?;
    let study =
        run(&scenario, args.seed.unwrap_or(scenario.seed), args.runs.unwrap_or(scenario.runs), &mut watch);
    watch.finish()?;
    if let Some(path) = &args.plot {
        let svg = plot::bars(&study, &scenario.plot).map_err(|why| cannot(path, "drawn", &why))?;
        std::fs::write(path, svg).map_err(|error| cannot(path, "written", &error))?;
    }
    if args.json {
        out(serde_json::to_string_pretty(&study)?);
    } else {
        out(report::report(&study).trim_end());
    }
    Ok(())
}

fn cannot(path: &Path, what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure(format!("{}: can't be {what}: {why}", path.display()))
}

/// Shows progress, and writes the log.
struct Watch {
    log: Option<(PathBuf, BufWriter<File>)>,
    failed: Option<io::Error>,
    duration: f64,
    run: (String, usize, usize),
    /// Whether a line of progress stands on the terminal; without one, only every tenth part is told.
    terminal: bool,
    shown: bool,
    told: u32,
}

impl Watch {
    fn new(duration: f64, log: Option<&Path>) -> Result<Self, Failure> {
        let log = match log {
            Some(path) => {
                let file = File::create(path).map_err(|error| cannot(path, "written", &error))?;
                Some((path.to_owned(), BufWriter::new(file)))
            }
            None => None,
        };
        let terminal = io::stderr().is_terminal();
        Ok(Self { log, failed: None, duration, run: Default::default(), terminal, shown: false, told: 0 })
    }

    fn finish(self) -> Result<(), Failure> {
        if self.shown && self.terminal {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
        let Some((path, mut file)) = self.log else { return Ok(()) };
        match self.failed.map_or_else(|| file.flush(), Err) {
            Ok(()) => Ok(()),
            Err(error) => Err(cannot(&path, "written", &error)),
        }
    }
}

impl Observer for Watch {
    fn wants_log(&self) -> bool {
        self.log.is_some() && self.failed.is_none()
    }

    fn log(&mut self, entry: &Entry<'_>) {
        if let Some((_, file)) = &mut self.log
            && let Err(error) = writeln!(file, "{entry}")
        {
            self.failed = Some(error);
        }
    }

    fn begin(&mut self, case: &str, run: usize, runs: usize) {
        self.run = (case.to_owned(), run, runs);
        self.told = 0;
        if let Some((_, file)) = &mut self.log
            && let Err(error) = writeln!(file, "# {case}, run {} of {runs}", run + 1)
        {
            self.failed = Some(error);
        }
    }

    fn progress(&mut self, at: Instant) {
        let (case, run, runs) = &self.run;
        let seconds = at.as_nanos() as f64 / 1e9;
        let line = format!("{case}, run {} of {runs}: {seconds:.0} of {:.0} s", run + 1, self.duration);
        // Nobody is left to be told when standard error is closed.
        if self.terminal {
            let _ = write!(io::stderr(), "\r{line}\x1b[K");
        } else if (seconds * 10.0 / self.duration) as u32 > self.told {
            self.told = (seconds * 10.0 / self.duration) as u32;
            let _ = writeln!(io::stderr(), "{line}");
        }
        self.shown = true;
    }
}
