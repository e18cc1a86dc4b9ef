//! Counters of the control plane: messages by type, and what was dropped by reason.
//!
//! Owns: the stable names under which they are shown. Values only grow; they are reset by nothing but a
//! restart.

use std::fmt;

use crate::wire::{DecodeError, Message};

/// An enum whose values index counters and have stable kebab-case names.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $( $(#[$doc:meta])* $variant:ident = $text:literal, )* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $( $(#[$doc])* $variant, )* }

        impl $name {
            /// Every value, in the order in which they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The stable name, in kebab-case.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

named! {
    /// Why a message, one of its records, or a punt was dropped.
    DropReason {
        /// A field goes past the end of the message.
        Truncated = "truncated",
        /// A message type without meaning here.
        UnknownType = "unknown-message-type",
        /// An address family that can't be skipped, as its length is unknown.
        UnknownAfi = "unknown-afi",
        /// A length field contradicts what is there.
        BadLength = "bad-length",
        /// Bytes after the last field.
        TrailingData = "trailing-data",
        /// An encapsulated control message with LISP-SEC data of an unknown type.
        EcmSecurity = "ecm-unknown-security-type",
        /// An encapsulated control message whose inner packet is not valid UDP over IPv4 or IPv6.
        EcmInner = "ecm-bad-inner-packet",
        /// An encapsulated control message with something other than a Map-Request inside (RFC 9301 §5.8).
        EcmContent = "ecm-without-map-request",
        /// An encapsulated Map-Request that wants a Map-Referral (RFC 8111); this is neither DDT node nor
        /// Map-Server.
        EcmDdt = "ecm-ddt",
        /// A message for a role that this router does not have.
        NoRole = "role-not-configured",
        /// A Map-Request without an ITR-RLOC that a reply could be sent to (RFC 9301 §5.3).
        RequestNoRloc = "request-without-itr-rloc",
        /// A Map-Request whose source port can't take a reply (0, or the data port; RFC 9301 §5.8).
        RequestPort = "request-bad-source-port",
        /// A Map-Request for nothing.
        RequestEmpty = "request-without-record",
        /// More records in a Map-Request than are worked on; the first ones are.
        RequestRecords = "request-records-ignored",
        /// A Map-Request for an EID of an address family that isn't served.
        RequestEid = "request-unsupported-eid",
        /// A Map-Request for an EID that isn't this site's.
        RequestNotOurs = "request-eid-not-ours",
        /// A Map-Request that wants no reply (D bit) and is no SMR.
        RequestNoReply = "request-wants-no-reply",
        /// An RLOC-probe that reached a Map-Resolver or Map-Server, or came encapsulated (RFC 9301 §5.2,
        /// §5.8).
        ProbeMisdirected = "probe-in-mapping-system",
        /// The same Map-Request again within a moment: a forwarding loop, or a duplicate.
        RequestLoop = "request-loop",
        /// A Map-Request is to be forwarded to a Map-Server whose name isn't resolved.
        ForwardUnresolved = "forward-host-unresolved",
        /// A Map-Request while too many are being searched for in the DDT.
        DdtPendingFull = "ddt-pending-full",
        /// A Map-Referral from somebody who was not asked, or too late.
        ReferralUnsolicited = "referral-unsolicited",
        /// A Map-Referral that says nothing of what was asked, or with an unassigned action.
        ReferralUseless = "referral-useless",
        /// A Map-Referral that leads no closer (RFC 8111 §7.3.4); the search is given up, if it began at the
        /// root.
        ReferralLoop = "referral-loop",
        /// A DDT node was asked by mistake; the search is given up, if it began at the root.
        ReferralNotAuthoritative = "referral-not-authoritative",
        /// DDT nodes that did not answer; the search is given up, if it began at the root.
        ReferralTimeout = "referral-timeout",
        /// More replies with the same record for one RLOC than allowed.
        RateRecord = "rate-limit-record",
        /// More replies for one RLOC than allowed.
        RateRloc = "rate-limit-rloc",
        /// More replies in all than allowed.
        RateTotal = "rate-limit-total",
        /// More Map-Requests from one sender than allowed.
        RateSource = "rate-limit-source",
        /// More bytes than allowed for an ITR-RLOC that did not send the Map-Request itself.
        RateUnverified = "rate-limit-unverified-bytes",
        /// A Map-Reply whose nonce matches no outstanding Map-Request.
        ReplyNonce = "reply-unknown-nonce",
        /// A Map-Reply without a record that covers the EID that was asked for.
        ReplyNotCovering = "reply-not-covering",
        /// A record of a Map-Reply that nobody asked for.
        ReplyUnasked = "reply-record-unasked",
        /// A record of a Map-Reply for an EID of an address family that isn't served.
        ReplyEid = "reply-record-unsupported-eid",
        /// A record of a Map-Reply for EIDs of this very site.
        ReplyLocal = "reply-record-local-eid",
        /// A record of a Map-Reply for an EID-prefix that the configuration has a mapping for.
        ReplyStatic = "reply-record-static",
        /// A record of a Map-Reply with a time to live of 0: the mapping is gone.
        ReplyWithdrawn = "reply-record-withdrawn",
        /// A locator of another site that is one of ours: packets to it would come back to us. It is not
        /// used.
        ReplyLocatorOwn = "reply-locator-ours",
        /// A locator that is an EID itself: packets to it would have to be encapsulated again. It is not
        /// used.
        ReplyLocatorEid = "reply-locator-is-eid",
        /// A record with more locators than are used; the best ones are.
        ReplyLocators = "reply-locators-ignored",
        /// An SMR for something that isn't in the map-cache (RFC 9301 §6.1).
        SmrNotCached = "smr-not-cached",
        /// An SMR for an EID-prefix that was asked for moments ago (RFC 9301 §6.1).
        SmrRate = "smr-rate-limit",
        /// More SMRs than allowed that come from elsewhere than the locators of the entry that they are
        /// about.
        SmrStranger = "smr-rate-limit-strangers",
        /// More ITRs than can be told of a change of our mappings, or more changes than one of them can be
        /// told of.
        SmrTargets = "smr-targets-full",
        /// A miss while too many Map-Requests are outstanding.
        PendingFull = "pending-requests-full",
        /// A miss while too many Map-Requests are outstanding on behalf of the same source.
        PendingSource = "pending-requests-of-source",
        /// A Map-Request could not be sent: no Map-Resolver has a known address.
        NoMapResolver = "no-map-resolver",
        /// A Map-Request could not be sent: no locator of our own that a reply could come to.
        NoLocalRloc = "no-local-rloc",
        /// An entry was thrown out of a full map-cache.
        CacheEvicted = "map-cache-evicted",
        /// An entry that nobody used for the configured time was removed.
        CacheIdle = "map-cache-idle",
        /// The map-cache is full, and nothing in it may be thrown out.
        CacheFull = "map-cache-full",
        /// A path MTU for an RLOC that no map-cache entry has, or too many of them.
        PathMtuUnknown = "path-mtu-unknown-rloc",
        /// The underlay says that an RLOC is unreachable that no map-cache entry has, or too many of them.
        UnreachableUnknown = "unreachable-unknown-rloc",
        /// The underlay says that an RLOC is unreachable that answered a probe after it had said so before.
        UnreachableContradicted = "unreachable-contradicted",
        /// An answer to an RLOC-probe without its P bit, or with a record without its A bit (RFC 9301 §5.4).
        ProbeReply = "probe-reply-bits",
        /// A Map-Register without records.
        RegisterEmpty = "register-without-record",
        /// A record of a Map-Register whose EID-prefix its sender doesn't own (RFC 9301 §8.2).
        RegisterNotOwned = "register-eid-not-owned",
        /// A record of a Map-Register for an EID of an address family that isn't served.
        RegisterEid = "register-unsupported-eid",
        /// A Map-Register whose nonce isn't greater than the last one (RFC 9301 §5.6).
        RegisterReplayed = "register-replayed",
        /// A Map-Register with a record of an older version than the one that its sender registered before
        /// (RFC 9302 §5).
        RegisterVersion = "register-version-old",
        /// A record of a Map-Register for which there is no room.
        RegisterFull = "registrations-full",
        /// The key id is none of those configured for the site or Map-Server.
        AuthKeyId = "auth-unknown-key-id",
        /// An algorithm other than the key's.
        AuthAlgorithm = "auth-algorithm",
        /// Authentication data of a length that the algorithm doesn't produce.
        AuthLength = "auth-data-length",
        /// The authentication data is wrong: wrong key, or changed on the way.
        AuthMac = "auth-wrong-key",
        /// A Map-Notify from something that isn't a Map-Server of ours.
        NotifyUnknown = "notify-unknown-map-server",
        /// A Map-Notify for a Map-Register that has been confirmed or replaced.
        NotifyStale = "notify-stale",
        /// A Map-Notify-Ack for nothing.
        AckUnsolicited = "notify-ack-unsolicited",
        /// A CacheSync from something that isn't one of the configured xTRs of the site, or without
        /// synchronisation.
        SyncStranger = "sync-not-a-member",
        /// A CacheSync of a session that its sender has not proved to be his: from before a restart, or
        /// another's.
        SyncSession = "sync-unknown-session",
        /// A CacheSync whose nonce was there already, or is older than any that may still come.
        SyncReplayed = "sync-replayed",
        /// A CacheSync or CacheSync-Ack for another xTR, or for what this one was before it started anew.
        SyncMisdirected = "sync-misdirected",
        /// A CacheSync-Ack for nothing that is still waited for.
        SyncAck = "sync-ack-unsolicited",
        /// A record of a CacheSync of a kind that isn't known; the others are used.
        SyncKind = "sync-record-unknown-kind",
        /// A record of a CacheSync for an EID of an address family that isn't served.
        SyncEid = "sync-record-unsupported-eid",
        /// A record of a CacheSync for an instance that this router has nothing to do with.
        SyncInstance = "sync-record-unknown-instance",
        /// A record of a CacheSync for EIDs of this very site.
        SyncLocal = "sync-record-local-eid",
        /// A record of a CacheSync for an EID-prefix that the configuration has a mapping for.
        SyncStatic = "sync-record-static",
        /// A record of a CacheSync that is older than what is known.
        SyncOlder = "sync-record-older",
        /// A record of a CacheSync for which the map-cache has no room.
        SyncFull = "sync-record-no-room",
        /// A record of a CacheSync with a mapping, some of those inside which are not known.
        SyncInside = "sync-record-without-those-inside",
        /// A record of a CacheSync about what is no locator, or one that has just shown the contrary.
        SyncLocator = "sync-record-locator",
        /// A message of ours that doesn't fit its format.
        Encode = "encode-failed",
    }
}

impl DropReason {
    /// Whether it is part of normal work, as answers may come late or twice: nothing to look into.
    pub const fn is_ordinary(self) -> bool {
        matches!(
            self,
            Self::RequestNoReply
                | Self::RequestLoop
                | Self::SmrNotCached
                | Self::SmrRate
                | Self::CacheIdle
                | Self::ReplyWithdrawn
                | Self::NotifyStale
                | Self::UnreachableUnknown
                | Self::PathMtuUnknown
                | Self::SyncAck
        )
    }
}

impl From<&DecodeError> for DropReason {
    fn from(error: &DecodeError) -> Self {
        match error {
            DecodeError::Missing(_) => Self::Truncated,
            DecodeError::TrailingData(_) => Self::TrailingData,
            DecodeError::UnknownType(_) => Self::UnknownType,
            DecodeError::UnknownAfi { .. } => Self::UnknownAfi,
            DecodeError::BadLength(_) => Self::BadLength,
            DecodeError::UnknownSecurityType(_) => Self::EcmSecurity,
            DecodeError::InnerVersion(_)
            | DecodeError::InnerProtocol(_)
            | DecodeError::InnerFragment
            | DecodeError::InnerHeaderChecksum
            | DecodeError::InnerUdpChecksum => Self::EcmInner,
        }
    }
}

named! {
    /// What kinds of messages are counted.
    MessageKind {
        /// Type 1.
        MapRequest = "map-request",
        /// Type 2.
        MapReply = "map-reply",
        /// Type 3.
        MapRegister = "map-register",
        /// Type 4.
        MapNotify = "map-notify",
        /// Type 5.
        MapNotifyAck = "map-notify-ack",
        /// Type 6.
        MapReferral = "map-referral",
        /// Type 7.
        Info = "info",
        /// Type 8: counted as this, its content not again.
        Ecm = "encapsulated-control-message",
        /// Type 15, of a sub-type that means nothing here.
        SharedExtension = "shared-extension",
        /// Type 15, sub-type 1060.
        CacheSync = "cache-sync",
        /// Type 15, sub-type 1061.
        CacheSyncAck = "cache-sync-ack",
    }
}

impl From<&Message> for MessageKind {
    fn from(message: &Message) -> Self {
        match message {
            Message::MapRequest(_) => Self::MapRequest,
            Message::MapReply(_) => Self::MapReply,
            Message::MapRegister(_) => Self::MapRegister,
            Message::MapNotify(_) => Self::MapNotify,
            Message::MapNotifyAck(_) => Self::MapNotifyAck,
            Message::MapReferral(_) => Self::MapReferral,
            Message::Info(_) => Self::Info,
            Message::Ecm(_) => Self::Ecm,
            Message::SharedExtension(_) => Self::SharedExtension,
            Message::CacheSync(_) => Self::CacheSync,
            Message::CacheSyncAck(_) => Self::CacheSyncAck,
        }
    }
}

/// All counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    drops: [u64; DropReason::ALL.len()],
    received: [u64; MessageKind::ALL.len()],
    sent: [u64; MessageKind::ALL.len()],
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            drops: [0; DropReason::ALL.len()],
            received: [0; MessageKind::ALL.len()],
            sent: [0; MessageKind::ALL.len()],
        }
    }
}

impl Statistics {
    /// How often `reason` held.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or(0)
    }

    /// Well-formed messages received.
    pub fn received(&self, kind: MessageKind) -> u64 {
        self.received.get(kind as usize).copied().unwrap_or(0)
    }

    /// Messages handed out for sending.
    pub fn sent(&self, kind: MessageKind) -> u64 {
        self.sent.get(kind as usize).copied().unwrap_or(0)
    }

    /// Every drop counter with its reason, in fixed order.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().copied().zip(self.drops)
    }

    /// Every message counter as (kind, received, sent), in fixed order.
    pub fn messages(&self) -> impl Iterator<Item = (MessageKind, u64, u64)> + '_ {
        MessageKind::ALL
            .iter()
            .copied()
            .zip(self.received.iter().copied().zip(self.sent))
            .map(|(k, (r, s))| (k, r, s))
    }

    pub(crate) fn count_drop(&mut self, reason: DropReason) {
        bump(&mut self.drops, reason as usize);
    }

    pub(crate) fn count_received(&mut self, kind: MessageKind) {
        bump(&mut self.received, kind as usize);
    }

    pub(crate) fn count_sent(&mut self, kind: MessageKind) {
        bump(&mut self.sent, kind as usize);
    }
}

fn bump(counters: &mut [u64], index: usize) {
    if let Some(counter) = counters.get_mut(index) {
        *counter += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_kebab_case_and_counted_apart() {
        let names: BTreeSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
        assert!(names.iter().all(|n| n.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
        let mut s = Statistics::default();
        for reason in DropReason::ALL {
            s.count_drop(*reason);
        }
        assert!(s.drops().all(|(_, n)| n == 1));
    }
}
