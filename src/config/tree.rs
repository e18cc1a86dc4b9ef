//! Reads typed values from a TOML tree, noting every wrong type, missing and unknown key on the way.

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{At, Place, Problems};
use super::value::{Fault, FromText};

/// A table of the file, or a section that the file leaves out.
pub(crate) struct Section<'a> {
    table: Option<&'a DeTable<'a>>,
    place: Place,
    problems: &'a Problems<'a>,
    /// Every key that was asked for: what the section may contain.
    known: RefCell<Vec<&'static str>>,
    bad: Cell<bool>,
}

impl<'a> Section<'a> {
    pub(crate) fn root(table: &'a DeTable<'a>, problems: &'a Problems<'a>) -> Self {
        Self::new(Some(table), Place::default(), problems)
    }

    fn new(table: Option<&'a DeTable<'a>>, place: Place, problems: &'a Problems<'a>) -> Self {
        Self { table, place, problems, known: RefCell::default(), bad: Cell::new(false) }
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// Whether the file has `key`, be its value right or wrong.
    pub(crate) fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// Whether `key` holds sections rather than a single value.
    pub(crate) fn has_sections(&self, key: &'static str) -> bool {
        matches!(self.get(key), Some((DeValue::Array(_) | DeValue::Table(_), _)))
    }

    /// Whether something was wrong in this section so far.
    pub(crate) fn bad(&self) -> bool {
        self.bad.get()
    }

    /// Notes a problem with `key` of this section.
    pub(crate) fn error(&self, key: &'static str, message: impl Into<String>, remedy: impl Into<String>) {
        let place = self.get(key).map_or_else(|| self.place.child(key), |(_, place)| place);
        self.fail(&place, message, remedy);
    }

    /// Notes that `key` is needed and not there, unless it is there.
    pub(crate) fn require(&self, key: &'static str, remedy: &str) {
        if !self.has(key) {
            self.error(key, "missing", remedy);
        }
    }

    /// A string that is read as `T`.
    pub(crate) fn text<T: FromText>(&self, key: &'static str) -> Option<At<T>> {
        let (value, place) = self.get(key)?;
        self.parse_text(value, place)
    }

    /// An array of strings that are each read as `T`; wrong ones are noted and left out.
    pub(crate) fn texts<T: FromText>(&self, key: &'static str) -> Option<At<Vec<At<T>>>> {
        let (value, place) = self.get(key)?;
        let Some(array) = value.as_array() else {
            self.wrong_type(&place, value, "an array", "write it in brackets, as [\"…\", \"…\"]");
            return None;
        };
        let items = array.iter().enumerate().filter_map(|(i, item)| {
            let place = Place { span: item.span(), key: format!("{}[{}]", place.key, i + 1) };
            self.parse_text(item.get_ref(), place)
        });
        Some(At { value: items.collect(), place: place.clone() })
    }

    /// A boolean.
    pub(crate) fn bool(&self, key: &'static str) -> Option<At<bool>> {
        let (value, place) = self.get(key)?;
        let Some(flag) = value.as_bool() else {
            self.wrong_type(&place, value, "true or false", "write true or false without quotes");
            return None;
        };
        Some(At { value: flag, place })
    }

    /// A whole number within `range`.
    pub(crate) fn integer(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<At<u64>> {
        let (value, place) = self.get(key)?;
        let (low, high) = (range.start(), range.end());
        let Some(integer) = value.as_integer() else {
            self.wrong_type(&place, value, "a whole number", &format!("give {low} to {high} without quotes"));
            return None;
        };
        match i128::from_str_radix(integer.as_str(), integer.radix()).ok().and_then(|n| u64::try_from(n).ok())
        {
            Some(n) if range.contains(&n) => Some(At { value: n, place }),
            _ => {
                self.fail(
                    &place,
                    format!("{} is not in {low}–{high}", shorten(&integer.to_string())),
                    format!("give a whole number from {low} to {high}"),
                );
                None
            }
        }
    }

    /// A whole number within `range`, or the string `auto`, which is given back as `None`.
    pub(crate) fn integer_or_auto(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<At<Option<u64>>> {
        let (value, place) = self.get(key)?;
        match value.as_str() {
            Some("auto") => Some(At { value: None, place }),
            Some(other) => {
                let remedy =
                    format!("give \"auto\" or a whole number from {} to {}", range.start(), range.end());
                self.fail(&place, format!("\"{}\" is not \"auto\"", shorten(other)), remedy);
                None
            }
            None => self.integer(key, range).map(|n| n.map(Some)),
        }
    }

    /// A whole number within `range`, or a string that is read as `T`.
    pub(crate) fn integer_or_text<T: FromText>(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
        from_integer: impl FnOnce(u64) -> T,
    ) -> Option<At<T>> {
        match self.get(key)?.0 {
            DeValue::Integer(_) => self.integer(key, range).map(|n| n.map(from_integer)),
            _ => self.text(key),
        }
    }

    /// A section of its own; one that the file leaves out reads as empty.
    pub(crate) fn section(&self, key: &'static str) -> Section<'a> {
        match self.get(key) {
            Some((DeValue::Table(table), place)) => Section::new(Some(table), place, self.problems),
            Some((value, place)) => {
                self.wrong_type(&place, value, "a section", &format!("write [{}]", place.key));
                Section::new(None, place, self.problems)
            }
            None => Section::new(None, self.place.child(key), self.problems),
        }
    }

    /// The sections of an array of tables, in order.
    pub(crate) fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        let Some((value, place)) = self.get(key) else { return Vec::new() };
        let remedy = format!("write [[{}]] for each", strip_indices(&place.key));
        let Some(array) = value.as_array() else {
            self.wrong_type(&place, value, "a list of sections", &remedy);
            return Vec::new();
        };
        let sections = array.iter().enumerate().filter_map(|(i, item)| {
            let place = Place { span: item.span(), key: format!("{}[{}]", place.key, i + 1) };
            match item.get_ref() {
                DeValue::Table(table) => Some(Section::new(Some(table), place, self.problems)),
                value => {
                    self.wrong_type(&place, value, "a section", &remedy);
                    None
                }
            }
        });
        sections.collect()
    }

    /// Notes every key that was not asked for. True if nothing was wrong in this section.
    pub(crate) fn finish(self) -> bool {
        let mut known = self.known.take();
        known.sort_unstable();
        known.dedup();
        for (key, _) in self.table.into_iter().flatten() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            let place = Place { span: key.span(), ..self.place.child(&shorten(name)) };
            let remedy = match nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys here are {}", known.join(", ")),
            };
            self.fail(&place, "unknown key", remedy);
        }
        !self.bad.get()
    }

    fn get(&self, key: &'static str) -> Option<(&'a DeValue<'a>, Place)> {
        self.known.borrow_mut().push(key);
        let value: &Spanned<DeValue<'a>> = self.table?.get(key)?;
        Some((value.get_ref(), Place { span: value.span(), ..self.place.child(key) }))
    }

    fn parse_text<T: FromText>(&self, value: &DeValue<'_>, place: Place) -> Option<At<T>> {
        let Some(text) = value.as_str() else {
            self.wrong_type(&place, value, T::WHAT, &format!("give {} in quotes", T::WHAT));
            return None;
        };
        match T::from_text(text) {
            Ok(value) => Some(At { value, place }),
            Err(Fault { message, remedy }) => {
                self.fail(&place, message, remedy);
                None
            }
        }
    }

    fn wrong_type(&self, place: &Place, value: &DeValue<'_>, wanted: &str, remedy: &str) {
        self.fail(place, format!("is {}, not {wanted}", type_name(value)), remedy);
    }

    fn fail(&self, place: &Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.bad.set(true);
        self.problems.error(place, message, remedy);
    }
}

const fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a section",
    }
}

/// `site[2].key` → `site.key`, as in the header of a section.
fn strip_indices(path: &str) -> String {
    path.split('.').map(|part| part.split('[').next().unwrap_or_default()).collect::<Vec<_>>().join(".")
}

/// The candidate that `name` is most likely a misspelling of.
pub(crate) fn nearest<'c>(name: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    // Bounds the cost, which grows with the product of the lengths.
    let name: String = name.chars().take(64).collect();
    let near = candidates.map(|candidate| (strsim::jaro_winkler(&name, candidate), candidate));
    let best = near.filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, candidate)| candidate)
}

/// Text from the file as it may be shown: without control characters, and not without bound.
pub(crate) fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    let mut shown: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    if text.chars().nth(MOST).is_some() {
        shown.push('…');
    }
    shown
}
