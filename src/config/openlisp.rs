//! The three-section text format of the OpenLISP control plane, and its conversion to our TOML.
//!
//! ```text
//! @MAPSERVER            one per line: address or name, key
//! @MAPRESOLVER          one per line: address or name
//! @EID                  one section per EID-prefix:
//! #Eid-Prefix Mask TTL Flag           TTL in minutes; flag 1 = register
//! #RLOC Priority Weight Local-flag    one per line
//! ```
//! Words are separated by blanks. `#` at the start of a word makes the rest of the line a comment; a comment
//! that starts with `#Eid-Prefix` says that the next line is a new EID-prefix, so that several may share a
//! section. The router is an ITR and an ETR; its keys are for HMAC-SHA-1, key id 0, the only ones that the
//! format knows.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::problem::{At, Place, Problems};
use super::raw::{
    RawConfig, RawEidPrefix, RawKey, RawKeySource, RawLocator, RawLocatorSource, RawLocators, RawMapResolver,
    RawMapServer,
};
use super::tree::{nearest, shorten};
use super::value::{Fault, FromText, RlocAddress, Role, SecretText, prefix};
use crate::auth::Algorithm;
use crate::proto::config::Host;
use crate::types::{InstanceId, Ttl};

const SECTIONS: [&str; 3] = ["@MAPSERVER", "@MAPRESOLVER", "@EID"];

/// Whether `text` is in this format: its first line that is not a comment opens a section. No TOML starts
/// like that.
pub(super) fn detect(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines.next().is_some_and(|line| line.starts_with('@'))
}

/// Reads a file into sections, noting problems.
pub(super) fn read(text: &str, problems: &Problems<'_>) -> RawConfig {
    let mut reader = Reader { problems, raw: RawConfig::default(), section: Section::None };
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        reader.line(line, start);
        start += line.len();
    }
    reader.end_of_eid();
    reader.finish()
}

enum Section {
    None,
    /// Its lines are not looked at.
    Unknown,
    MapServer,
    MapResolver,
    /// The next line is an EID-prefix; where the section began.
    Eid(Place),
    /// The next lines are RLOCs of the last EID-prefix, if that could be read.
    Rloc,
}

struct Reader<'a> {
    problems: &'a Problems<'a>,
    raw: RawConfig,
    section: Section,
}

/// A word of a line and where it stands.
type Word<'l> = At<&'l str>;

impl Reader<'_> {
    fn line(&mut self, line: &str, start: usize) {
        let (words, comment) = words(line, start);
        let eid_header = comment.is_some_and(|c| {
            c.trim_start_matches('#')
                .trim_start()
                .get(..10)
                .is_some_and(|w| w.eq_ignore_ascii_case("eid-prefix"))
        });
        if let Some(first) = words.first() {
            if first.value.starts_with('@') {
                self.open(first, words.get(1));
            } else {
                self.entry(&words);
            }
        }
        if eid_header && matches!(self.section, Section::Rloc) {
            self.end_of_eid();
            self.section = Section::Eid(Place { span: start..start + line.len(), key: "@EID".into() });
        }
    }

    fn open(&mut self, name: &Word<'_>, more: Option<&Word<'_>>) {
        self.end_of_eid();
        self.section = match name.value {
            "@MAPSERVER" => Section::MapServer,
            "@MAPRESOLVER" => Section::MapResolver,
            "@EID" => Section::Eid(keyed(&name.place, "@EID")),
            other => {
                let remedy = match nearest(&other.to_ascii_uppercase(), SECTIONS.into_iter()) {
                    Some(near) => format!("did you mean {near}?"),
                    None => format!("the sections are {}", SECTIONS.join(", ")),
                };
                self.error(&name.place, format!("unknown section {}", shorten(other)), remedy);
                Section::Unknown
            }
        };
        if let (Some(word), false) = (more, matches!(self.section, Section::Unknown)) {
            self.error(&word.place, "text after the name of the section", "put it on the next line");
        }
    }

    fn entry(&mut self, words: &[Word<'_>]) {
        match self.section {
            Section::None => {
                if let Some(first) = words.first() {
                    self.error(
                        &first.place,
                        "text before the first section",
                        "start with @MAPSERVER, @MAPRESOLVER or @EID",
                    );
                }
                self.section = Section::Unknown;
            }
            Section::Unknown => {}
            Section::MapServer => self.map_server(words),
            Section::MapResolver => self.map_resolver(words),
            Section::Eid(_) => self.eid_prefix(words),
            Section::Rloc => self.rloc(words),
        }
    }

    fn map_server(&mut self, words: &[Word<'_>]) {
        // A surplus word is not shown: it may be a part of the key.
        let Some([host, key]) = self.fields(words, "@MAPSERVER", "ADDRESS KEY, the key without blanks")
        else {
            return;
        };
        let host = self.value(host, "@MAPSERVER address", FromText::from_text);
        let source = At {
            value: RawKeySource::Inline(SecretText(key.value.to_owned().into())),
            place: keyed(&key.place, "@MAPSERVER key"),
        };
        if key.value.contains('#') {
            let message = "contains #, which is taken as a part of the key";
            self.problems.warning(&source.place, message, "put a blank before # if a comment is meant");
        }
        let id = At { value: 0, place: source.place.clone() };
        self.raw.map_servers.push(RawMapServer {
            place: host.as_ref().map_or_else(|| source.place.clone(), |h| h.place.clone()),
            name: None,
            host,
            keys: vec![RawKey { source: Some(source), id, algorithm: Algorithm::HmacSha1, truncate: false }],
            proxy_reply: false,
            want_notify: true,
            use_ttl: false,
            merge: false,
        });
    }

    fn map_resolver(&mut self, words: &[Word<'_>]) {
        let Some([host]) = self.fields(words, "@MAPRESOLVER", "ADDRESS") else { return };
        let host: Option<At<Host>> = self.value(host, "@MAPRESOLVER address", FromText::from_text);
        self.raw.map_resolvers.extend(host.map(|host| RawMapResolver {
            place: host.place.clone(),
            host: Some(host),
            prefixes: Vec::new(),
            iid: None,
        }));
    }

    fn eid_prefix(&mut self, words: &[Word<'_>]) {
        self.section = Section::Rloc;
        let Some([addr, mask, ttl, flag]) = self.fields(words, "@EID", "EID-PREFIX MASK TTL FLAG") else {
            // Takes the RLOC lines.
            self.raw.eid_prefixes.push(eid_prefix(Place::default(), None, RawEidPrefix::DEFAULT_TTL, true));
            return;
        };
        let place = keyed(&addr.place, "@EID prefix");
        let addr = self.value(addr, "@EID prefix", <IpAddr as FromText>::from_text);
        let mask = self.number::<u32>(mask, "@EID mask", 0..=u64::from(u32::MAX));
        let ttl = self.number(ttl, "@EID TTL", 1..=u64::from(u32::MAX - 1));
        let flag = self.number::<u8>(flag, "@EID flag", 0..=1);
        let net = addr.zip(mask).and_then(|(addr, mask)| match prefix(addr.value, mask.value) {
            Ok(net) => Some(At { value: net, place: place.clone() }),
            Err(f) if f.message.starts_with("mask length") => {
                self.error(&mask.place, f.message, f.remedy);
                None
            }
            Err(f) => {
                self.error(&place, f.message, f.remedy);
                None
            }
        });
        let ttl = ttl.map_or(RawEidPrefix::DEFAULT_TTL, |t| Ttl(t.value));
        let register = flag.is_none_or(|f| f.value == 1);
        self.raw.eid_prefixes.push(eid_prefix(place, net, ttl, register));
    }

    fn rloc(&mut self, words: &[Word<'_>]) {
        let read = self.locator(words);
        let Some(locators) = self.raw.eid_prefixes.last_mut().and_then(|e| e.locators.as_mut()) else {
            return;
        };
        locators.incomplete |= read.is_none();
        locators.list.extend(read);
    }

    fn locator(&mut self, words: &[Word<'_>]) -> Option<RawLocator> {
        let [addr, priority, weight, local] =
            self.fields(words, "@EID", "RLOC PRIORITY WEIGHT LOCAL-FLAG")?;
        let place = keyed(&addr.place, "@EID RLOC");
        let addr = self.value(addr, "@EID RLOC", <RlocAddress as FromText>::from_text);
        let priority = self.number(priority, "@EID priority", 0..=255);
        let weight = self.number(weight, "@EID weight", 0..=100);
        let local = self.number::<u8>(local, "@EID local flag", 0..=1);
        Some(RawLocator {
            place,
            source: addr?.map(RawLocatorSource::Address),
            priority: priority?.value,
            weight: weight?.value,
            mpriority: 255,
            mweight: 0,
            local: local?.value == 1,
        })
    }

    /// Called where an `@EID` section, or an EID-prefix in it, ends.
    fn end_of_eid(&mut self) {
        match std::mem::replace(&mut self.section, Section::None) {
            Section::Eid(place) => {
                self.error(&place, "no EID-prefix follows", "add a line EID-PREFIX MASK TTL FLAG")
            }
            Section::Rloc => {
                let Some(entry) = self.raw.eid_prefixes.last_mut() else { return };
                let Some(locators) = entry.locators.as_mut() else { return };
                if locators.list.is_empty() && !locators.incomplete && entry.prefix.is_some() {
                    locators.incomplete = true;
                    let place = entry.place.clone();
                    self.error(&place, "no RLOC follows", "add a line RLOC PRIORITY WEIGHT LOCAL-FLAG");
                }
            }
            _ => {}
        }
    }

    fn finish(mut self) -> RawConfig {
        let start = Place::default();
        if !self.raw.incomplete {
            if self.raw.eid_prefixes.is_empty() {
                self.error(&start, "no EID-prefix", "add an @EID section");
            } else if self.raw.map_servers.is_empty() && self.raw.eid_prefixes.iter().any(|e| e.register) {
                self.error(
                    &start,
                    "no Map-Server to register with",
                    "add a @MAPSERVER section, or make each flag 0",
                );
            }
            if self.raw.map_resolvers.is_empty() {
                self.error(&start, "no Map-Resolver", "add a @MAPRESOLVER section");
            }
        }
        let roles = [Role::Itr, Role::Etr].map(|value| At { value, place: start.clone() });
        self.raw.roles = Some(At { value: roles.into(), place: start });
        self.raw
    }

    /// The words of a line, if there are as many as there should be.
    fn fields<'w, 'l, const N: usize>(
        &mut self,
        words: &'w [Word<'l>],
        section: &str,
        format: &str,
    ) -> Option<&'w [Word<'l>; N]> {
        let fields = words.try_into().ok();
        if let (None, Some(first)) = (fields, words.first()) {
            let what = if words.len() == 1 { "1 word".into() } else { format!("{} words", words.len()) };
            self.error(
                &keyed(&first.place, section),
                format!("the line has {what}, not {N}"),
                format!("write {format}"),
            );
        }
        fields
    }

    fn value<T>(
        &mut self,
        word: &Word<'_>,
        key: &str,
        from_text: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<At<T>> {
        let place = keyed(&word.place, key);
        match from_text(word.value) {
            Ok(value) => Some(At { value, place }),
            Err(f) => {
                self.error(&place, f.message, f.remedy);
                None
            }
        }
    }

    fn number<T: TryFrom<u64>>(
        &mut self,
        word: &Word<'_>,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<At<T>> {
        self.value(word, key, |text| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse().ok().filter(|n| digits && range.contains(n));
            number.and_then(|n| T::try_from(n).ok()).ok_or_else(|| {
                let (low, high) = (range.start(), range.end());
                Fault {
                    message: format!("{} is not in {low}–{high}", shorten(text)),
                    remedy: format!("give a whole number from {low} to {high}"),
                }
            })
        })
    }

    fn error(&mut self, place: &Place, message: impl Into<String>, remedy: impl Into<String>) {
        self.raw.incomplete = true;
        self.problems.error(place, message, remedy);
    }
}

fn eid_prefix(place: Place, prefix: Option<At<ipnet::IpNet>>, ttl: Ttl, register: bool) -> RawEidPrefix {
    let locators = Some(RawLocators::default());
    RawEidPrefix {
        place,
        prefix,
        iid: InstanceId::DEFAULT,
        ttl,
        register,
        map_servers: None,
        map_version: None,
        locators,
    }
}

fn keyed(place: &Place, key: &str) -> Place {
    Place { span: place.span.clone(), key: key.to_owned() }
}

/// Takes a line that starts at byte `start` apart into its words and its comment.
fn words(line: &str, start: usize) -> (Vec<Word<'_>>, Option<&str>) {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        if rest.starts_with('#') {
            return (words, Some(rest));
        }
        let begin = line.len() - rest.len();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        words.push(At {
            value: word,
            place: Place { span: start + begin..start + begin + end, key: String::new() },
        });
        rest = after.trim_start();
    }
    (words, None)
}

/// Writes what [`read`] found as TOML. The keys are in it.
pub(super) fn to_toml(raw: &RawConfig) -> String {
    let mut toml = String::from("roles = [\"itr\", \"etr\"]\n");
    write_toml(raw, &mut toml).unwrap_or_default();
    toml
}

fn write_toml(raw: &RawConfig, to: &mut String) -> std::fmt::Result {
    let sets: Vec<&[RawLocator]> =
        raw.eid_prefixes.iter().filter_map(|e| Some(&e.locators.as_ref()?.list[..])).collect();
    let common = sets.first().filter(|first| sets.iter().all(|set| same(first, set)));
    if let Some(locators) = common {
        write_locators(locators, "locator", to)?;
    }
    for entry in &raw.eid_prefixes {
        let Some(prefix) = &entry.prefix else { continue };
        write!(to, "\n[[eid-prefix]]\nprefix = \"{}\"\nttl = {}\n", prefix.value, entry.ttl.0)?;
        if !entry.register {
            to.write_str("register = false\n")?;
        }
        if let (None, Some(locators)) = (common, &entry.locators) {
            write_locators(&locators.list, "eid-prefix.locator", to)?;
        }
    }
    for server in &raw.map_servers {
        let source = server.keys.first().and_then(|key| key.source.as_ref());
        let (Some(host), Some(source)) = (&server.host, source) else { continue };
        let RawKeySource::Inline(key) = &source.value else { continue };
        let key = toml::Value::String(key.0.to_string());
        write!(to, "\n[[map-server]]\naddress = \"{}\"\nkey = {key}\nalgorithm = \"sha1\"\n", host.value)?;
    }
    for resolver in &raw.map_resolvers {
        let Some(host) = &resolver.host else { continue };
        write!(to, "\n[[map-resolver]]\naddress = \"{}\"\n", host.value)?;
    }
    Ok(())
}

fn write_locators(locators: &[RawLocator], section: &str, to: &mut String) -> std::fmt::Result {
    for locator in locators {
        let RawLocatorSource::Address(addr) = &locator.source.value else { continue };
        write!(to, "\n[[{section}]]\naddress = \"{}\"\n", addr.0)?;
        write!(to, "priority = {}\nweight = {}\n", locator.priority, locator.weight)?;
        if !locator.local {
            to.write_str("local = false\n")?;
        }
    }
    Ok(())
}

/// Whether two sets of locators are written the same.
fn same(a: &[RawLocator], b: &[RawLocator]) -> bool {
    let key = |l: &RawLocator| (l.source.value.clone(), l.priority, l.weight, l.local);
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| key(a) == key(b))
}
