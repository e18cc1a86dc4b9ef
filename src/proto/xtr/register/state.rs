//! How the registrations stand, as people are shown it.
//!
//! Owns: nothing; it only reads.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::auth::Algorithm;
use crate::proto::context::Context;
use crate::proto::xtr::database::Database;
use crate::types::{EidPrefix, Instant};

use super::Registrar;
use super::bundle::{Bundle, is_for};
use super::send::address_of;

/// How the registration of a prefix with a Map-Server stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationState {
    /// The Map-Server's name.
    pub map_server: String,
    /// Where it is, if known.
    pub address: Option<IpAddr>,
    /// When the last Map-Register was sent.
    pub last_sent: Option<Instant>,
    /// When a Map-Notify last confirmed the prefix; never where none is wanted.
    pub last_notified: Option<Instant>,
    /// Map-Registers since the last one that was confirmed; 0 where no Map-Notify is wanted.
    pub unanswered: u32,
    /// Whether confirmation by Map-Notify is wanted at all.
    pub want_notify: bool,
    /// The registration as it is now is confirmed, or sent where no confirmation is wanted.
    pub confirmed: bool,
    /// It was confirmed as it was before, so that the Map-Server has it, and is being registered as it is
    /// now.
    pub updating: bool,
    /// Map-Registers sent since the prefix is registered there.
    pub sent: u64,
    /// Map-Notifies that confirmed one of them.
    pub notified: u64,
    /// The Map-Server's last Map-Notify left this prefix out.
    pub refused: bool,
    /// The Map-Server's last Map-Notify has other locators for this prefix than we registered: another xTR of
    /// the site registers it in another way.
    pub contradicted: bool,
    /// Key ID and algorithm of the last Map-Register that was confirmed, or else of the last one that was
    /// sent.
    pub key: Option<(u8, Algorithm)>,
}

impl Registrar {
    /// How the registration of `prefix` stands with every Map-Server that it is for: its name, whether it has
    /// confirmed the prefix as it is now, and whether it refused it.
    pub(crate) fn standing(&self, prefix: &EidPrefix) -> impl Iterator<Item = (&str, bool, bool)> {
        self.servers.iter().filter_map(move |server| {
            let bundle = server.bundles.iter().find(|bundle| bundle.prefixes.contains(prefix))?;
            Some((&server.config.name[..], bundle.confirmed, bundle.refused.contains(prefix)))
        })
    }

    /// How the registrations of every prefix stand, in the order of the configured Map-Servers; also of those
    /// that are to be registered and of which nothing can be sent yet.
    pub(crate) fn states(
        &self,
        cx: &Context,
        database: &Database,
    ) -> BTreeMap<EidPrefix, Vec<RegistrationState>> {
        let mut states: BTreeMap<EidPrefix, Vec<RegistrationState>> = BTreeMap::new();
        for server in &self.servers {
            let address = address_of(cx, &server.config, 0, database.rlocs());
            let mut bundles: BTreeMap<EidPrefix, &Bundle> = BTreeMap::new();
            for bundle in &server.bundles {
                bundles.extend(bundle.prefixes.iter().map(|prefix| (*prefix, bundle)));
            }
            for (prefix, _) in database.iter().filter(|(_, entry)| is_for(entry, &server.config)) {
                let bundle = bundles.get(&prefix).copied();
                let now = bundle.map(|bundle| bundle.standing(&prefix)).unwrap_or_default();
                let refused = bundle.is_some_and(|bundle| bundle.refused.contains(&prefix));
                let confirmed = bundle.is_some_and(|bundle| bundle.confirmed) && !refused;
                states.entry(prefix).or_default().push(RegistrationState {
                    map_server: server.config.name.clone(),
                    address,
                    last_sent: now.last_sent,
                    last_notified: now.last_notified,
                    unanswered: bundle.map_or(0, |bundle| bundle.unanswered),
                    want_notify: server.config.want_notify,
                    confirmed,
                    updating: now.registered && !confirmed,
                    sent: now.sent,
                    notified: now.notified,
                    refused,
                    contradicted: server.contradicted.contains(&prefix),
                    key: now.key,
                });
            }
        }
        states
    }
}
