//! What the data plane counts: every packet that it dropped, by reason, and what it did otherwise.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! names {
    ($(#[$meta:meta])* $type:ident { $($(#[$doc:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type { $($(#[$doc])* $variant,)+ }

        impl $type {
            /// All, in the order in which they are shown.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in statistics and metrics. Names don't change.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

names! {
    /// Why a packet was dropped.
    DropReason {
        /// From the site: not an IP packet, or its lengths are impossible.
        Malformed = "malformed",
        /// From the site: the source is not in an EID-prefix of this site, nor the destination in one that a
        /// proxy-ITR is for.
        SourceNotLocal = "source-not-local",
        /// From the site: the destination is an EID of this site, to which the kernel has no route.
        DestinationLocal = "destination-local",
        /// From the site: multicast, broadcast, link-local or loopback destination.
        NotUnicast = "not-unicast",
        /// From the site: TTL or hop limit used up; answered by ICMP time exceeded.
        TtlExpired = "ttl-expired",
        /// No mapping yet; the control plane is or was told.
        NoMapping = "no-mapping",
        /// Negative mapping: no action.
        NegativeNoAction = "negative-no-action",
        /// Negative mapping: natively-forward; the kernel forwards the packets that follow.
        NegativeNativelyForward = "negative-natively-forward",
        /// Negative mapping: drop, and any unassigned action.
        NegativeDrop = "negative-drop",
        /// Negative mapping: drop, policy denied.
        NegativePolicyDenied = "negative-policy-denied",
        /// Negative mapping: drop, authentication failure.
        NegativeAuthFailure = "negative-auth-failure",
        /// There is a mapping, but none of its locators can be reached from ours.
        NoPath = "no-path",
        /// Exceeds the path MTU and must not be fragmented; answered by ICMP.
        TooBig = "too-big",
        /// A super-packet of more segments than any sender makes.
        TooManySegments = "too-many-segments",
        /// The socket's send buffer was full.
        SendBufferFull = "send-buffer-full",
        /// The kernel refused to send the outer datagram (no route, interface down, filtered …).
        SendFailed = "send-failed",
        /// From the underlay: shorter than a LISP header.
        OuterTruncated = "outer-truncated",
        /// From the underlay: encrypted (RFC 8061) with a key that nobody agreed on.
        Encrypted = "encrypted",
        /// From the underlay: an instance ID that is not configured.
        UnknownInstance = "unknown-instance",
        /// From the underlay: the inner packet is not an IP packet, or its lengths are impossible.
        InnerMalformed = "inner-malformed",
        /// From the underlay: the inner IPv4 header checksum is wrong.
        InnerChecksum = "inner-checksum",
        /// From the underlay: inner source or destination is multicast, broadcast, link-local or loopback.
        InnerNotUnicast = "inner-not-unicast",
        /// From the underlay: the inner destination is not in an EID-prefix of this site and instance.
        InnerDestinationNotLocal = "inner-destination-not-local",
        /// From the underlay: the inner destination has moved to another site, which is not known, or is
        /// where the packet came from.
        InnerDestinationAway = "inner-destination-away",
        /// From the underlay: the inner source claims to be of this site.
        InnerSourceLocal = "inner-source-local",
        /// From the underlay: the outer source is not a locator of the inner source's mapping.
        SourceRloc = "source-rloc-not-listed",
        /// From the underlay: the inner source has no mapping with locators, and the source check is strict.
        SourceUnknown = "source-mapping-unknown",
        /// From the underlay: sent after a version of our mapping that there never was (RFC 9302 §7.1).
        DestinationVersion = "destination-version-impossible",
        /// From the underlay: sent after an old version of our mapping by somebody who was told so ten times
        /// (RFC 9302 §7.1).
        StaleVersion = "destination-version-old",
        /// From the underlay: sent by somebody with an older version of his mapping than is known (RFC 9302
        /// §7.2).
        SourceVersion = "source-version-old",
        /// From the underlay, at a proxy-ETR: neither is the inner source in an EID-prefix that it is for,
        /// nor does its mapping list the outer source.
        InnerSourceNotProxied = "inner-source-not-proxied",
        /// From the underlay: congestion was marked on a packet whose sender can't be told (RFC 6040 §4.2).
        Congestion = "congestion",
        /// From the underlay: inner or outer TTL is zero.
        InnerTtlExpired = "inner-ttl-expired",
        /// The TUN's queue was full.
        TunFull = "tun-full",
        /// The kernel refused the packet on the TUN (interface down …).
        TunFailed = "tun-failed",
    }
}

names! {
    /// What is counted beside drops.
    Count {
        /// Inner packets encapsulated.
        EncapsulatedPackets = "encapsulated-packets",
        /// Bytes of them.
        EncapsulatedBytes = "encapsulated-bytes",
        /// Inner packets decapsulated.
        DecapsulatedPackets = "decapsulated-packets",
        /// Bytes of them.
        DecapsulatedBytes = "decapsulated-bytes",
        /// Of these, packets for what has moved to another site, to be sent on.
        Redirected = "redirected-packets",
        /// Inner packets that were cut into fragments.
        Fragmented = "fragmented",
        /// Punts handed to the control plane.
        Punts = "punts",
        /// Punts lost because the control plane's queue or the table of pending destinations was full.
        PuntsLost = "punts-lost",
        /// Misses that the control plane was not told of, because there were too many of them.
        PuntsLimited = "punts-rate-limited",
        /// ICMP errors sent to the site.
        IcmpSent = "icmp-sent",
        /// ICMP errors not sent, because of the rate limit or because the kernel refused.
        IcmpNotSent = "icmp-not-sent",
        /// ICMP errors from the underlay about datagrams that we never sent.
        UnderlayErrorsIgnored = "underlay-errors-ignored",
        /// System calls that read from a TUN.
        TunReads = "tun-reads",
        /// System calls that wrote to a TUN.
        TunWrites = "tun-writes",
        /// System calls that sent to the underlay.
        Sends = "sends",
        /// System calls that received from the underlay.
        Receives = "receives",
    }
}

const DROPS: usize = DropReason::ALL.len();
const COUNTS: usize = Count::ALL.len();

/// The counters of one data thread: written by it alone, read by anybody.
#[derive(Debug)]
#[repr(align(128))] // Its own cache lines, as prefetched in pairs.
pub struct Counters {
    drops: [AtomicU64; DROPS],
    counts: [AtomicU64; COUNTS],
}

impl Default for Counters {
    fn default() -> Self {
        Self { drops: [const { AtomicU64::new(0) }; DROPS], counts: [const { AtomicU64::new(0) }; COUNTS] }
    }
}

impl Counters {
    /// Counts dropped packets.
    #[inline]
    pub fn dropped(&self, reason: DropReason, packets: u64) {
        if let Some(counter) = self.drops.get(reason as usize) {
            Self::add(counter, packets);
        }
    }

    /// Counts anything else.
    #[inline]
    pub fn count(&self, what: Count, n: u64) {
        if let Some(counter) = self.counts.get(what as usize) {
            Self::add(counter, n);
        }
    }

    /// One writer: a load and a store lose nothing, and cost no locked instruction.
    #[inline]
    fn add(counter: &AtomicU64, n: u64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn totals(&self) -> Totals {
        Totals {
            drops: self.drops.each_ref().map(|c| c.load(Ordering::Relaxed)),
            counts: self.counts.each_ref().map(|c| c.load(Ordering::Relaxed)),
        }
    }
}

/// A reading of [`Counters`], or a sum of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    drops: [u64; DROPS],
    counts: [u64; COUNTS],
}

impl Default for Totals {
    fn default() -> Self {
        Self { drops: [0; DROPS], counts: [0; COUNTS] }
    }
}

impl Totals {
    /// Packets dropped for a reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).copied().unwrap_or_default()
    }

    /// Packets dropped for any reason.
    pub fn dropped_in_all(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Anything else.
    pub fn counted(&self, what: Count) -> u64 {
        self.counts.get(what as usize).copied().unwrap_or_default()
    }

    /// Adds the counters of another thread.
    pub fn add(&mut self, other: &Self) {
        for (a, b) in self.drops.iter_mut().zip(other.drops).chain(self.counts.iter_mut().zip(other.counts)) {
            *a = a.wrapping_add(b);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_counter_has_its_own_kebab_case_name_and_place() {
        let names: Vec<_> =
            DropReason::ALL.iter().map(|r| r.name()).chain(Count::ALL.iter().map(|c| c.name())).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
        assert!(names.iter().all(|n| n.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
        let counters = Counters::default();
        for (i, &reason) in DropReason::ALL.iter().enumerate() {
            counters.dropped(reason, i as u64 + 1);
        }
        for (i, &what) in Count::ALL.iter().enumerate() {
            counters.count(what, i as u64 + 1);
        }
        let mut totals = counters.totals();
        totals.add(&counters.totals());
        assert!(DropReason::ALL.iter().enumerate().all(|(i, &r)| totals.dropped(r) == 2 * (i as u64 + 1)));
        assert!(Count::ALL.iter().enumerate().all(|(i, &c)| totals.counted(c) == 2 * (i as u64 + 1)));
    }
}
