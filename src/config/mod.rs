//! Text → validated plain structs, and importers of other formats.
//!
//! Owns: the TOML format of `configs/reference.toml`, every check that a file can undergo before anything is
//! touched, and the reading of keys from files and environment. Must not do I/O beyond the file and the keys
//! that it names.
//!
//! A file is read in two steps: into [`raw`] sections, which know their place in the text, and from these
//! into a [`Config`]. Both go on after a problem, so that one [`Report`] names all of them.

mod model;
mod openlisp;
mod probing;
mod problem;
pub mod raw;
mod sources;
mod tree;
mod validate;
mod value;
mod vrrp;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use toml::de::DeTable;
use zeroize::Zeroizing;

pub use model::*;
pub use problem::{At, Place, Problem, Report, Severity};
pub use sources::{KeyFile, Sources, System};
pub use value::{InterfaceName, RlocAddress, Role, SecretText, Variable};

#[cfg(test)]
mod tests;

// How a file of another kind is read with the same care: scenarios of the simulator.
pub(crate) use problem::Problems;
pub(crate) use tree::{Section, shorten};
pub(crate) use value::{Fault, FromText};
pub(crate) use vrrp::RawVirtualRouter;

use raw::RawConfig;

/// Longest file that is read, in bytes: a hundred thousand sites fit.
const LONGEST_FILE: usize = 32 << 20;

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings, no errors.
    pub warnings: Report,
}

/// Reads the file at `path`, its keys from the machine's files and environment.
///
/// # Errors
/// Every problem of the file, warnings included, if one of them is an error.
pub fn load(path: &Path) -> Result<Loaded, Report> {
    parse(path, &read(path, "configuration")?, &System)
}

/// Reads `text`, the content of the file at `path`: TOML, or OpenLISP's format if its first section says so.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, text: &str, sources: &dyn Sources) -> Result<Loaded, Report> {
    if openlisp::detect(text) {
        return Ok(parse_openlisp(path, text, sources)?.0);
    }
    let problems = Problems::new(text);
    let raw = read_toml(text, &problems);
    finish(path, &raw, problems, sources)
}

/// Converts the file at `path`, in OpenLISP's format, to TOML. The text contains the file's keys.
///
/// # Errors
/// As [`load`].
pub fn import_openlisp(path: &Path) -> Result<(Zeroizing<String>, Report), Report> {
    let (loaded, raw) = parse_openlisp(path, &read(path, "configuration")?, &System)?;
    Ok((Zeroizing::new(openlisp::to_toml(&raw)), loaded.warnings))
}

fn parse_openlisp(path: &Path, text: &str, sources: &dyn Sources) -> Result<(Loaded, RawConfig), Report> {
    let problems = Problems::new(text);
    let raw = openlisp::read(text, &problems);
    Ok((finish(path, &raw, problems, sources)?, raw))
}

fn finish(
    path: &Path,
    raw: &RawConfig,
    problems: Problems<'_>,
    sources: &dyn Sources,
) -> Result<Loaded, Report> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let config = validate::validate(raw, &problems, sources, directory);
    let report = problems.report(path);
    if report.has_errors() { Err(report) } else { Ok(Loaded { config, warnings: report }) }
}

/// Reads a file as text. `kind` is what it should be: a configuration file, a scenario file.
pub(crate) fn read(path: &Path, kind: &str) -> Result<Zeroizing<String>, Report> {
    let cannot = |message: String, remedy: &str| Report::of_file(path, message, remedy);
    let give = |what: &str| format!("give {what}a {kind} file");
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| file.take(LONGEST_FILE as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| cannot(format!("can't be read: {e}"), &give("the path of ")))?;
    if bytes.len() > LONGEST_FILE {
        return Err(cannot("is longer than 32 MiB".into(), &give("")));
    }
    match str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(error) => {
            let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            Err(cannot(format!("is not UTF-8 text (line {line})"), "save it as UTF-8"))
        }
    }
}

/// Reads TOML into sections, noting syntax errors and wrong values.
fn read_toml(text: &str, problems: &Problems<'_>) -> RawConfig {
    let (tree, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = Place { span: error.span().unwrap_or(text.len()..text.len()), key: String::new() };
        problems.error(&place, error.message(), "correct the TOML syntax");
    }
    let mut raw = RawConfig::read(tree.get_ref(), problems);
    if !errors.is_empty() {
        // What was recovered may lack anything.
        raw.incomplete = true;
        raw.locators.incomplete = true;
        raw.eid_prefixes.iter_mut().filter_map(|e| e.locators.as_mut()).for_each(|l| l.incomplete = true);
        raw.sites.iter_mut().for_each(|s| s.incomplete = true);
    }
    raw
}
