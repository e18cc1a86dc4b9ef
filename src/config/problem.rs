//! What is wrong with a file, and where. Collects every problem instead of stopping at the first.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file can't be used.
    Error,
    /// The file can be used, but an operator should look at it.
    Warning,
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Line and column, both counted from 1, the column in characters; `None` where the whole file is meant.
    pub position: Option<(usize, usize)>,
    /// Path of the key, as `locator[2].weight`; array elements are counted from 1. Empty where no key is
    /// meant.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

/// The problems of one file, in the file's order. Displayed one per line:
/// `FILE:LINE:COLUMN: [warning: ]KEY: MESSAGE; REMEDY`. Never contains a key's secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The file.
    pub file: PathBuf,
    /// Its problems.
    pub problems: Vec<Problem>,
}

impl Report {
    /// A report of a single problem with the file as a whole.
    pub(crate) fn of_file(file: &Path, message: String, remedy: &str) -> Self {
        let problem = Problem {
            severity: Severity::Error,
            position: None,
            key: String::new(),
            message,
            remedy: remedy.into(),
        };
        Self { file: file.into(), problems: vec![problem] }
    }

    /// Whether the file can't be used.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|p| p.severity == Severity::Error)
    }

    /// Errors and warnings.
    pub fn counts(&self) -> (usize, usize) {
        let errors = self.problems.iter().filter(|p| p.severity == Severity::Error).count();
        (errors, self.problems.len() - errors)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:", self.file.display())?;
            if let Some((line, column)) = problem.position {
                write!(f, "{line}:{column}:")?;
            }
            if problem.severity == Severity::Warning {
                f.write_str(" warning:")?;
            }
            if !problem.key.is_empty() {
                write!(f, " {}:", problem.key)?;
            }
            write!(f, " {}; {}", problem.message, problem.remedy)?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// Where something stands in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Bytes of the text.
    pub span: Range<usize>,
    /// Path of the key.
    pub key: String,
}

impl Place {
    /// The place of `key` within this section, when it has no place of its own (because it is missing).
    pub(crate) fn child(&self, key: &str) -> Self {
        let key = if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) };
        Self { span: self.span.clone(), key }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, Default)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub place: Place,
}

impl<T> At<T> {
    /// The same place, another value.
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> At<U> {
        At { value: f(self.value), place: self.place }
    }
}

/// Collects problems while a text is read and checked.
#[derive(Debug)]
pub(crate) struct Problems<'a> {
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    found: RefCell<Vec<Problem>>,
}

impl<'a> Problems<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, lines: std::iter::once(0).chain(starts).collect(), found: RefCell::default() }
    }

    pub(crate) fn error(&self, place: &Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, place, message.into(), remedy.into());
    }

    pub(crate) fn warning(&self, place: &Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, place, message.into(), remedy.into());
    }

    /// The line that `place` is on, from 1.
    pub(crate) fn line(&self, place: &Place) -> usize {
        self.position(place).0
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.borrow().iter().any(|p| p.severity == Severity::Error)
    }

    /// What was found, in the file's order, each problem once.
    pub(crate) fn report(self, file: &Path) -> Report {
        let mut problems = self.found.into_inner();
        problems.sort_by_key(|p| p.position);
        problems.dedup();
        Report { file: file.into(), problems }
    }

    fn add(&self, severity: Severity, place: &Place, message: String, remedy: String) {
        let position = Some(self.position(place));
        self.found.borrow_mut().push(Problem { severity, position, key: place.key.clone(), message, remedy });
    }

    fn position(&self, place: &Place) -> (usize, usize) {
        let mut start = place.span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let line = self.lines.partition_point(|begin| *begin <= start);
        let begin = self.lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.text.get(begin..start).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}
