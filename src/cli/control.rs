//! Commands that ask a running router.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use serde::Serialize;

use super::output::out;
use super::{Failure, usage};
use crate::config::DEFAULT_SOCKET;
use crate::mgmt::client::{ClientError, ask};
use crate::mgmt::protocol::{LocatorName, Reply, Request};
use crate::mgmt::{table, view::Filter};
use crate::types::{Eid, EidPrefix, Family, InstanceId, LocatorChange};

/// How long a router may take to answer what it knows.
const PATIENCE: Duration = Duration::from_secs(15);
/// The same where it has to ask others first.
const LIG_PATIENCE: Duration = Duration::from_secs(75);

/// Where the router is.
#[derive(Debug, Args)]
pub(super) struct Socket {
    /// The router's control socket [default: the variable EIDOLON_SOCKET, or /run/eidolon/control.sock]
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
}

impl Socket {
    fn ask(&self, request: &Request, patience: Duration) -> Result<Reply, ClientError> {
        let path = self.socket.clone().or_else(|| std::env::var_os("EIDOLON_SOCKET").map(PathBuf::from));
        ask(&path.unwrap_or_else(|| DEFAULT_SOCKET.into()), request, patience)
    }
}

/// An EID or EID-prefix as it is written: `10.1.2.3`, `10.1.0.0/16`, `[7]10.1.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EidText {
    iid: Option<InstanceId>,
    net: IpNet,
    /// No mask length was given.
    host: bool,
}

fn parse_iid(text: &str) -> Result<InstanceId, String> {
    let iid = text.parse().ok().and_then(InstanceId::new);
    iid.ok_or_else(|| format!("an instance ID is a number from 0 to {}", InstanceId::MAX))
}

fn parse_eid(text: &str) -> Result<EidText, String> {
    let (iid, rest) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((iid, rest)) => (Some(parse_iid(iid)?), rest),
        None => (None, text),
    };
    let addr = rest.parse::<IpAddr>().map(IpNet::from);
    let host = addr.is_ok();
    let net: Option<IpNet> = addr.ok().or_else(|| rest.parse().ok());
    match net {
        Some(net) if net != net.trunc() => {
            Err(format!("{rest} has host bits set: write {}, or an EID without mask length", net.trunc()))
        }
        Some(net) => Ok(EidText { iid, net, host }),
        None => Err("write an EID as 10.1.2.3, 2001:db8::1 or [7]10.1.2.3, a prefix as 10.1.0.0/16".into()),
    }
}

fn parse_resolver(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "give the IP address of a Map-Resolver, not its name".into())
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum What {
    /// What the ITR knows of other sites.
    MapCache,
    /// The site's own EID-prefixes, their locators and registrations.
    Database,
    /// The sites of the Map-Server and who registered.
    Sites,
    /// The site's locators, and whether those of other sites can be reached.
    Locators,
    /// Counters.
    Statistics,
    /// TUNs and underlay interfaces.
    Interfaces,
    /// The Map-Resolvers, and how they do.
    Resolvers,
    /// Outstanding Map-Requests.
    Pending,
    /// Virtual routers (VRRP).
    Vrrp,
    /// The site's other xTRs that the map-cache is synchronised with.
    Sync,
    /// The DDT: delegations, Map-Referrals by what they say, and the referrals that a Map-Resolver remembers.
    Ddt,
    /// EID-prefixes that may move: which are here, and which are elsewhere.
    DynamicEids,
}

/// `show`
#[derive(Debug, Args)]
pub(super) struct Show {
    /// What to show.
    #[arg(value_enum)]
    what: What,
    /// `detail` for all that is known (map-cache); an EID or EID-prefix for only those EID-prefixes that
    /// cover it or lie in it (map-cache, database, sites).
    #[arg(num_args = 0..=2, value_name = "detail|EID")]
    select: Vec<String>,
    /// Only this instance ID (map-cache, database, sites).
    #[arg(long, value_parser = parse_iid)]
    iid: Option<InstanceId>,
    /// As JSON instead of a table.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    socket: Socket,
}

/// What of `what` the words after it and `--iid` select, and whether in detail.
fn parse_selection(what: What, words: &[String], iid: Option<InstanceId>) -> Result<(bool, Filter), String> {
    let name = what.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let by_eid = matches!(what, What::MapCache | What::Database | What::Sites);
    let (mut detail, mut eid) = (false, None);
    for word in words {
        match (word.as_str(), parse_eid(word)) {
            ("detail", _) if what != What::MapCache => {
                return Err("`detail` is for the map-cache only: leave it out".into());
            }
            ("detail", _) if !detail => detail = true,
            (_, Err(_)) if !by_eid => return Err(format!("{word}: nothing comes after `{name}`")),
            (_, Ok(_)) if !by_eid => {
                return Err(format!("{word}: an EID selects from map-cache, database or sites, not {name}"));
            }
            (_, Ok(parsed)) if eid.is_none() => eid = Some(parsed),
            (other, Err(why)) if other != "detail" => {
                let or = if what == What::MapCache { "write `detail`, or: " } else { "" };
                return Err(format!("{word}: {or}{why}"));
            }
            _ => return Err("give one EID or EID-prefix at most, and `detail` once".into()),
        }
    }
    if iid.is_some() && !by_eid {
        return Err(format!("--iid selects from map-cache, database or sites, not {name}"));
    }
    let iid = instance(iid, eid.and_then(|eid| eid.iid))?;
    Ok((detail, Filter { iid, net: eid.map(|eid| eid.net) }))
}

pub(super) fn show(args: &Show) -> Result<(), Failure> {
    let selection = parse_selection(args.what, &args.select, args.iid);
    let (detail, filter) = selection.unwrap_or_else(|why| usage("show", &why));
    let request = match args.what {
        What::MapCache => Request::ShowMapCache { filter },
        What::Database => Request::ShowDatabase { filter },
        What::Sites => Request::ShowSites { filter },
        What::Locators => Request::ShowLocators,
        What::Statistics => Request::ShowStatistics,
        What::Interfaces => Request::ShowInterfaces,
        What::Resolvers => Request::ShowResolvers,
        What::Pending => Request::ShowPending,
        What::Vrrp => Request::ShowVrrp,
        What::Sync => Request::ShowSync,
        What::Ddt => Request::ShowDdt,
        What::DynamicEids => Request::ShowDynamicEids,
    };
    let json = args.json;
    match args.socket.ask(&request, PATIENCE)? {
        Reply::MapCache(view) if detail => print(json, &view, table::map_cache_detail),
        Reply::MapCache(view) => print(json, &view, table::map_cache),
        Reply::Database(view) => print(json, &view, table::database),
        Reply::Sites(view) => print(json, &view, table::sites),
        Reply::Locators(view) => print(json, &view, table::locators),
        Reply::Statistics(view) => print(json, &view, table::statistics),
        Reply::Interfaces(view) => print(json, &view, table::interfaces),
        Reply::Resolvers(view) => print(json, &view, table::resolvers),
        Reply::Pending(view) => print(json, &view, table::pending),
        Reply::Vrrp(view) => print(json, &view, table::vrrp),
        Reply::Sync(view) => print(json, &view, table::sync),
        Reply::Ddt(view) => print(json, &view, table::ddt),
        Reply::DynamicEids(view) => print(json, &view, table::dynamic_eids),
        other => Err(unexpected(&other)),
    }
}

/// `clear`
#[derive(Debug, Args)]
pub(super) struct Clear {
    /// What to clear.
    #[arg(value_enum)]
    what: Clearable,
    /// Only the entry of exactly this EID-prefix.
    #[arg(value_parser = parse_eid)]
    prefix: Option<EidText>,
    /// Instance ID of the EID-prefix [default: 0]
    #[arg(long, value_parser = parse_iid, requires = "prefix")]
    iid: Option<InstanceId>,
    /// As JSON instead of text.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    socket: Socket,
}

/// What can be cleared.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Clearable {
    /// What the ITR knows of other sites.
    MapCache,
}

/// What `clear` did.
#[derive(Debug, Serialize)]
struct Cleared {
    /// Entries that were forgotten.
    cleared: u64,
}

pub(super) fn clear(args: &Clear) -> Result<(), Failure> {
    let Clearable::MapCache = args.what;
    let prefix = args.prefix.map(|eid| EidPrefix::new(instance_of("clear", args.iid, &eid), eid.net));
    match args.socket.ask(&Request::ClearMapCache { prefix }, PATIENCE)? {
        Reply::Cleared(0) if prefix.is_some() => {
            Err(Failure::from("the map-cache has no entry of exactly this EID-prefix"))
        }
        Reply::Cleared(n) => print(args.json, &Cleared { cleared: n }, |view| {
            format!("{} {} cleared", view.cleared, if view.cleared == 1 { "entry" } else { "entries" })
        }),
        other => Err(unexpected(&other)),
    }
}

/// `lig`
#[derive(Debug, Args)]
pub(super) struct Lig {
    /// The EID to ask for.
    #[arg(value_parser = parse_eid)]
    eid: EidText,
    /// Ask this Map-Resolver instead of the router's own.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_resolver)]
    via: Option<IpAddr>,
    /// Instance ID of the EID [default: 0]
    #[arg(long, value_parser = parse_iid)]
    iid: Option<InstanceId>,
    /// As JSON instead of a table.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    socket: Socket,
}

pub(super) fn lig(args: &Lig) -> Result<(), Failure> {
    if !args.eid.host {
        usage("lig", &format!("lig asks for one EID: write {}, without mask length", args.eid.net.addr()));
    }
    let iid = instance_of("lig", args.iid, &args.eid);
    let request = Request::Lig { eid: Eid::new(iid, args.eid.net.addr()), via: args.via };
    match args.socket.ask(&request, LIG_PATIENCE)? {
        Reply::Lig(view) => print(args.json, &view, table::lig),
        other => Err(unexpected(&other)),
    }
}

/// `set`
#[derive(Debug, Args)]
pub(super) struct Set {
    /// What to set.
    #[arg(value_enum)]
    what: Settable,
    /// Which one: its address, or the interface that its address comes from.
    #[arg(value_name = "ADDRESS|INTERFACE")]
    name: String,
    /// What is to hold: any of `priority N` (0 to 255, lowest wins, 255 = never), `weight N` (0 to 100, its
    /// share among equal priorities), `up`, `down`; or `default` for what is configured. Of an interface,
    /// `ipv4` or `ipv6` selects the locator of one family.
    #[arg(value_name = "priority N|weight N|up|down|default", required = true)]
    words: Vec<String>,
    /// As JSON instead of text.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    socket: Socket,
}

/// What can be set.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Settable {
    /// One of the site's locators.
    Locator,
}

/// What `set locator` did.
#[derive(Debug, Serialize)]
struct LocatorsSet {
    /// The locators, as they are configured.
    locators: Vec<String>,
    /// What was changed of them, without what was changed before; `None` = as configured again.
    #[serde(rename = "override")]
    change: Option<LocatorChange>,
    /// What is odd about them now.
    warnings: Vec<String>,
}

pub(super) fn set(args: &Set) -> Result<(), Failure> {
    let Settable::Locator = args.what;
    let (family, change) = match parse_change(&args.words) {
        Ok(parsed) => parsed,
        Err(why) => usage("set", &why),
    };
    let locator = match args.name.parse() {
        Ok(_) if family.is_some() => usage("set", "an address has its family: leave out ipv4 or ipv6"),
        Ok(addr) => LocatorName::Address(addr),
        Err(_) => LocatorName::Interface { name: args.name.clone(), family },
    };
    match args.socket.ask(&Request::SetLocator { locator, change }, PATIENCE)? {
        Reply::LocatorsSet { locators, warnings } => {
            for warning in warnings.iter().filter(|_| !args.json) {
                super::output::err(format_args!("warning: {warning}"));
            }
            print(args.json, &LocatorsSet { locators, change, warnings }, |view| {
                let names = view.locators.join(", ");
                match view.change {
                    Some(change) => format!("{names}: {change}, until the next reload or restart"),
                    None => format!("{names}: as configured"),
                }
            })
        }
        other => Err(unexpected(&other)),
    }
}

/// The words after the locator's name.
fn parse_change(words: &[String]) -> Result<(Option<Family>, Option<LocatorChange>), String> {
    let mut change = LocatorChange::default();
    let (mut family, mut default) = (None, false);
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let mut number = |most: u8| {
            let text = words.next().ok_or_else(|| format!("{word} needs a number from 0 to {most}"))?;
            let number = text.parse().ok().filter(|n| *n <= most);
            number.map(Some).ok_or_else(|| format!("{word} {text}: give a number from 0 to {most}"))
        };
        match word {
            "priority" => change.priority = number(255)?,
            "weight" => change.weight = number(100)?,
            "up" | "down" => change.up = Some(word == "up"),
            "ipv4" => family = Some(Family::Ipv4),
            "ipv6" => family = Some(Family::Ipv6),
            "default" => default = true,
            other => {
                return Err(format!(
                    "{other}: write any of `priority N`, `weight N`, `up`, `down`, or `default`"
                ));
            }
        }
    }
    match (default, change == LocatorChange::default()) {
        (true, true) => Ok((family, None)),
        (true, false) => Err("`default` stands alone: it takes every change back".into()),
        (false, true) => {
            Err("say what is to hold: `priority N`, `weight N`, `up`, `down`, or `default`".into())
        }
        (false, false) => Ok((family, Some(change))),
    }
}

/// `move`
#[derive(Debug, Args)]
pub(super) struct Move {
    /// The EID or EID-prefix, part of a [[dynamic-eid]] of this router.
    #[arg(value_parser = parse_eid)]
    eid: EidText,
    /// It is no longer here: the router that it was at need not be told where another one has claimed it.
    #[arg(long)]
    away: bool,
    /// It may be at several sites at a time, all of which say so, and has this priority here: 0 to 255,
    /// lowest wins, 255 = never.
    #[arg(long, value_name = "N", conflicts_with = "away")]
    priority: Option<u8>,
    /// How long to wait, in seconds, for the Map-Servers to confirm it: fails if they don't. 0 = not at all.
    #[arg(
        long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u8).range(..=60)
    )]
    wait: u8,
    /// Instance ID of the EID [default: 0]
    #[arg(long, value_parser = parse_iid)]
    iid: Option<InstanceId>,
    /// As JSON instead of text.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    socket: Socket,
}

pub(super) fn move_eid(args: &Move) -> Result<(), Failure> {
    let iid = instance_of("move", args.iid, &args.eid);
    let prefix = EidPrefix::new(iid, args.eid.net);
    let request = Request::Move { prefix, away: args.away, priority: args.priority, wait: args.wait };
    match args.socket.ask(&request, PATIENCE + Duration::from_secs(args.wait.into()))? {
        Reply::Moved(view) if view.outcome.is_good() => print(args.json, &view, table::moved),
        Reply::Moved(view) => {
            if args.json {
                print(true, &view, table::moved)?;
            }
            Err(Failure::from(table::moved(&view)))
        }
        other => Err(unexpected(&other)),
    }
}

/// `reload`
#[derive(Debug, Args)]
pub(super) struct Reload {
    /// As JSON instead of text.
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    socket: Socket,
}

pub(super) fn reload(args: &Reload) -> Result<(), Failure> {
    match args.socket.ask(&Request::Reload, PATIENCE) {
        Ok(Reply::Reloaded(reloaded)) => {
            for warning in reloaded.warnings.iter().filter(|_| !args.json) {
                super::output::err(warning);
            }
            print(args.json, &reloaded, |reloaded| match reloaded.changes.is_empty() {
                true => "reloaded, nothing changed".into(),
                false => format!("reloaded: {}", reloaded.changes.join("\n  ")),
            })
        }
        Ok(other) => Err(unexpected(&other)),
        // Last, as the problems may be many.
        Err(ClientError::Refused(why)) => {
            Err(Failure(format!("{why}\nnot reloaded: the old configuration holds")))
        }
        Err(error) => Err(error.into()),
    }
}

/// The instance that `--iid` or the EID itself names.
fn instance(option: Option<InstanceId>, eid: Option<InstanceId>) -> Result<Option<InstanceId>, &'static str> {
    match (option, eid) {
        (Some(a), Some(b)) if a != b => Err("--iid and the EID name different instance IDs"),
        (a, b) => Ok(a.or(b)),
    }
}

/// The same for `command`, the default one where neither names any.
fn instance_of(command: &str, option: Option<InstanceId>, eid: &EidText) -> InstanceId {
    instance(option, eid.iid).unwrap_or_else(|why| usage(command, why)).unwrap_or_default()
}

fn print<V: Serialize>(json: bool, view: &V, table: fn(&V) -> String) -> Result<(), Failure> {
    let text = if json { serde_json::to_string_pretty(view)? } else { table(view) };
    out(text.trim_end());
    Ok(())
}

fn unexpected(_: &Reply) -> Failure {
    Failure::from("the router answered something else than was asked: is it of another version?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_locator_is_set_to_is_read_word_by_word() {
        let parse = |text: &str| parse_change(&text.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let change = LocatorChange { priority: Some(5), weight: Some(0), up: Some(false) };
        assert_eq!(parse("priority 5 weight 0 down"), Ok((None, Some(change))));
        let up = LocatorChange { up: Some(true), ..LocatorChange::default() };
        assert_eq!(parse("ipv6 up"), Ok((Some(Family::Ipv6), Some(up))));
        assert_eq!(parse("default"), Ok((None, None)));
        for wrong in
            ["", "priority", "priority 256", "weight 101", "weight x", "sideways", "default up", "ipv4"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn eids_are_read_as_they_are_shown() {
        let eid = parse_eid("[7]10.1.0.0/16").unwrap();
        assert_eq!((eid.iid, eid.net, eid.host), (InstanceId::new(7), "10.1.0.0/16".parse().unwrap(), false));
        let eid = parse_eid("2001:db8::1").unwrap();
        assert_eq!((eid.iid, eid.net, eid.host), (None, "2001:db8::1/128".parse().unwrap(), true));
        for wrong in ["", "10.1", "[16777216]10.1.2.3", "[7]", "10.0.0.0/33", "[x]::"] {
            assert!(parse_eid(wrong).is_err(), "{wrong}");
        }
        // As configurations, which take no host bits either.
        assert!(parse_eid("10.0.0.1/8").is_err_and(|why| why.contains("write 10.0.0.0/8")));
    }

    #[test]
    fn what_is_shown_is_selected_by_eid_and_instance() {
        let parse = |what, words: &[&str], iid| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            parse_selection(what, &words, iid)
        };
        let seven = InstanceId::new(7);
        let net = Some("10.1.0.0/16".parse().unwrap());
        assert_eq!(parse(What::Locators, &[], None), Ok((false, Filter::ALL)));
        assert_eq!(parse(What::MapCache, &["detail"], None), Ok((true, Filter::ALL)));
        assert_eq!(
            parse(What::MapCache, &["[7]10.1.0.0/16", "detail"], seven),
            Ok((true, Filter { iid: seven, net }))
        );
        assert_eq!(parse(What::Sites, &["10.1.0.0/16"], None), Ok((false, Filter { iid: None, net })));
        for (what, words, iid, said) in [
            (What::Interfaces, &["foo"][..], None, "nothing comes after `interfaces`"),
            (What::Interfaces, &["10.1.2.3"], None, "map-cache, database or sites, not interfaces"),
            (What::Locators, &[], seven, "--iid selects from map-cache, database or sites, not locators"),
            (What::Database, &["detail"], None, "for the map-cache only"),
            (What::MapCache, &["detial"], None, "detial: write `detail`, or: write an EID as"),
            (What::Sites, &["10.0.0.1/8"], None, "write 10.0.0.0/8"),
            (What::MapCache, &["10.1.2.3", "10.1.2.4"], None, "one EID"),
            (What::MapCache, &["detail", "detail"], None, "`detail` once"),
            (What::MapCache, &["[8]10.1.2.3"], seven, "different instance IDs"),
        ] {
            let why = parse(what, words, iid).unwrap_err();
            assert!(why.contains(said), "{why}");
        }
    }
}
