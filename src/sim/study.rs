//! Cases times seeds, and what the figures of many runs come to.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::log::Entry;
use super::network::Network;
use super::scenario::Scenario;
use super::tally::Figures;
use crate::types::Instant;

/// Who looks on while runs go.
pub trait Observer {
    /// Whether [`Self::log`] is wanted.
    fn wants_log(&self) -> bool {
        false
    }

    /// Something happened.
    fn log(&mut self, _entry: &Entry<'_>) {}

    /// A run begins: the name of its case, its place among all runs (from 0), and how many those are.
    fn begin(&mut self, _case: &str, _run: usize, _runs: usize) {}

    /// The run has come so far. Called once in a while, by the number of events.
    fn progress(&mut self, _at: Instant) {}
}

/// Looks at nothing.
impl Observer for () {}

/// What came of a scenario.
#[derive(Clone, Debug, Serialize)]
pub struct Study {
    /// Of the scenario.
    pub title: String,
    /// Simulated seconds of each run.
    pub duration_s: f64,
    /// In the scenario's order.
    pub cases: Vec<CaseResult>,
}

/// What came of a case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// Its name.
    pub name: String,
    /// One for each seed.
    pub runs: Vec<RunResult>,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunResult {
    /// The seed.
    pub seed: u64,
    /// Of the event log, in hex: equal where everything that happened is.
    pub fingerprint: String,
    /// How many events there were.
    pub events: u64,
    /// The figures of each group.
    pub groups: BTreeMap<String, Figures>,
}

/// A figure over several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Mean.
    pub mean: f64,
    /// Standard deviation of the sample; 0 for a single run.
    pub spread: f64,
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

/// Runs every case of a scenario, `runs` times each, with seeds from `seed` on: the same seeds for every
/// case, so that the cases differ by nothing else.
pub fn run(scenario: &Scenario, seed: u64, runs: u32, observer: &mut dyn Observer) -> Study {
    let all = scenario.cases.len() * runs as usize;
    let mut done = 0;
    let mut cases = Vec::new();
    for (number, case) in scenario.cases.iter().enumerate() {
        let mut results = Vec::new();
        for seed in (seed..).take(runs as usize) {
            observer.begin(&case.name, done, all);
            let mut network = Network::new(scenario, number, seed, observer);
            network.run(observer);
            results.push(RunResult {
                seed,
                fingerprint: network.fingerprint.to_string(),
                events: network.events,
                groups: network.figures(),
            });
            done += 1;
        }
        cases.push(CaseResult { name: case.name.clone(), runs: results });
    }
    Study { title: scenario.title.clone(), duration_s: scenario.duration.as_secs_f64(), cases }
}

impl CaseResult {
    /// The groups that have figures, in order.
    pub fn groups(&self) -> BTreeSet<&str> {
        self.runs.iter().flat_map(|run| run.groups.keys()).map(String::as_str).collect()
    }

    /// The names of a group's figures, in order.
    pub fn figures(&self, group: &str) -> BTreeSet<&str> {
        let groups = self.runs.iter().filter_map(|run| run.groups.get(group));
        groups.flat_map(Figures::keys).map(String::as_str).collect()
    }

    /// A figure over all runs; a run that doesn't have it counts as 0. `None` where none has it.
    pub fn summary(&self, group: &str, figure: &str) -> Option<Summary> {
        let get = |run: &RunResult| run.groups.get(group).and_then(|figures| figures.get(figure)).copied();
        if self.runs.iter().all(|run| get(run).is_none()) {
            return None;
        }
        let values: Vec<u64> = self.runs.iter().map(|run| get(run).unwrap_or_default()).collect();
        let count = values.len() as f64;
        let mean = values.iter().sum::<u64>() as f64 / count;
        let squares: f64 = values.iter().map(|v| (*v as f64 - mean) * (*v as f64 - mean)).sum();
        let spread = if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        let (min, max) = (values.iter().copied().min()?, values.iter().copied().max()?);
        Some(Summary { mean, spread, min, max })
    }
}
