//! Proptest strategies for messages and their parts, for the tests of every module.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::types::{
    Action, Eid, EidPrefix, InstanceId, Locator, MapVersion, Mapping, Nonce, SiteId, Ttl, XtrId,
};

use super::*;

/// Any IP address.
pub(crate) fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

/// The default instance, or any.
pub(crate) fn instance() -> impl Strategy<Value = InstanceId> {
    prop_oneof![
        Just(InstanceId::DEFAULT),
        (0..=InstanceId::MAX).prop_map(|iid| InstanceId::new(iid).unwrap())
    ]
}

/// Any EID.
pub(crate) fn eid() -> impl Strategy<Value = Eid> {
    (instance(), ip()).prop_map(|(iid, addr)| Eid::new(iid, addr))
}

/// Any EID-prefix.
pub(crate) fn eid_prefix() -> impl Strategy<Value = EidPrefix> {
    (eid(), 0..=128u8).prop_map(|(eid, len)| {
        let max = if eid.addr.is_ipv4() { 32 } else { 128 };
        EidPrefix::new(eid.iid, IpNet::new(eid.addr, len % (max + 1)).unwrap())
    })
}

/// Any locator.
pub(crate) fn locator() -> impl Strategy<Value = Locator> {
    (ip(), any::<[u8; 4]>(), any::<[bool; 3]>()).prop_map(
        |(rloc, [priority, weight, mpriority, mweight], [local, probe, reachable])| Locator {
            rloc,
            priority,
            weight,
            mpriority,
            mweight,
            local,
            probe,
            reachable,
        },
    )
}

/// Any mapping, negative or not.
pub(crate) fn mapping() -> impl Strategy<Value = Mapping> {
    (eid_prefix(), any::<u32>(), 0..8u8, any::<bool>(), any::<u16>(), vec(locator(), 0..5)).prop_map(
        |(eid, ttl, action, authoritative, version, locators)| Mapping {
            eid,
            ttl: Ttl(ttl),
            action: Action::from_bits(action),
            authoritative,
            version: MapVersion::new(version),
            locators,
        },
    )
}

/// Any address, LCAFs within each other included.
pub(crate) fn address() -> impl Strategy<Value = Address> {
    let leaf = prop_oneof![
        4 => ip().prop_map(Address::Ip),
        1 => Just(Address::None),
        1 => any::<[u8; 6]>().prop_map(Address::Mac),
        1 => vec(1..=255u8, 0..20).prop_map(Address::DistinguishedName),
        1 => opaque().prop_map(Address::Lcaf),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| lcaf(inner).prop_map(Address::Lcaf))
}

/// An LCAF of a type without structure.
fn opaque() -> impl Strategy<Value = Lcaf> {
    let kinds = prop_oneof![Just(0u8), 3..=6u8, Just(8u8), 14..=255u8];
    (kinds, any::<[u8; 3]>(), vec(any::<u8>(), 0..24)).prop_map(|(kind, [rsvd1, flags, rsvd2], payload)| {
        Lcaf::Opaque { rsvd1, flags, kind, rsvd2, payload }
    })
}

fn lcaf(inner: impl Strategy<Value = Address> + Clone + 'static) -> impl Strategy<Value = Lcaf> {
    let boxed = || inner.clone().prop_map(Box::new);
    prop_oneof![
        vec(inner.clone(), 0..4).prop_map(Lcaf::List),
        (any::<u8>(), any::<u32>(), boxed()).prop_map(|(iid_mask_len, iid, address)| Lcaf::InstanceId {
            iid_mask_len,
            iid,
            address
        }),
        (any::<[u16; 2]>(), inner.clone(), inner.clone(), inner.clone(), vec(inner.clone(), 0..3)).prop_map(
            |([ms_port, etr_port], global_etr, ms, private_etr, rtrs)| {
                Lcaf::NatTraversal(Box::new(NatTraversal {
                    ms_port,
                    etr_port,
                    global_etr,
                    ms,
                    private_etr,
                    rtrs,
                }))
            }
        ),
        (any::<[u8; 3]>(), any::<u32>(), boxed(), boxed()).prop_map(
            |([flags, source_mask_len, group_mask_len], iid, source, group)| Lcaf::Multicast {
                flags,
                iid,
                source_mask_len,
                group_mask_len,
                source,
                group,
            }
        ),
        vec(
            (any::<[bool; 3]>(), inner.clone()).prop_map(|([lookup, probe, strict], address)| ElpHop {
                lookup,
                probe,
                strict,
                address
            }),
            0..4
        )
        .prop_map(Lcaf::ExplicitLocatorPath),
        (any::<u8>(), any::<bool>(), vec(vec(any::<u8>(), 0..20), 0..3), boxed()).prop_map(
            |(algorithm, revoked, keys, address)| Lcaf::SecurityKey { algorithm, revoked, keys, address }
        ),
        (any::<[u8; 2]>(), boxed(), boxed()).prop_map(|([source_mask_len, dest_mask_len], source, dest)| {
            Lcaf::SourceDest { source_mask_len, dest_mask_len, source, dest }
        }),
        vec((any::<u8>(), inner).prop_map(|(level, address)| RleEntry { level, address }), 0..4)
            .prop_map(Lcaf::ReplicationList),
    ]
}

/// A mask length and any address, whether or not that makes an EID-prefix.
pub(crate) fn eid_address() -> impl Strategy<Value = EidAddress> {
    prop_oneof![
        eid_prefix().prop_map(EidAddress::from),
        (any::<u8>(), address()).prop_map(|(mask_len, address)| EidAddress { mask_len, address })
    ]
}

/// Any RLOC-record.
pub(crate) fn locator_record() -> impl Strategy<Value = LocatorRecord> {
    (locator(), address())
        .prop_map(|(locator, address)| LocatorRecord { address, ..LocatorRecord::from(&locator) })
}

/// Any EID-record.
pub(crate) fn eid_record() -> impl Strategy<Value = EidRecord> {
    (mapping(), eid_address(), vec(locator_record(), 0..4)).prop_map(|(mapping, eid, locators)| EidRecord {
        eid,
        locators,
        ..EidRecord::from(&mapping)
    })
}

fn auth_data() -> impl Strategy<Value = AuthData> {
    (any::<[u8; 2]>(), vec(any::<u8>(), 0..40)).prop_map(|([key_id, algorithm], data)| AuthData {
        key_id,
        algorithm,
        data,
    })
}

fn xtr_site() -> impl Strategy<Value = XtrSite> {
    (any::<[u8; 16]>(), any::<u64>())
        .prop_map(|(id, site)| XtrSite { xtr_id: XtrId(id), site_id: SiteId(site) })
}

fn nonce() -> impl Strategy<Value = Nonce> {
    any::<u64>().prop_map(Nonce)
}

/// Any Map-Request.
pub(crate) fn map_request() -> impl Strategy<Value = MapRequest> {
    (
        (any::<[bool; 7]>(), nonce(), address()),
        (vec(address(), 1..5), vec(eid_address(), 0..3), option::of(eid_record()), option::of(xtr_site())),
    )
        .prop_map(|((flags, nonce, source_eid), (itr_rlocs, records, map_reply_record, xtr_site))| {
            let [authoritative, probe, smr, pitr, smr_invoked, local_xtr, dont_map_reply] = flags;
            MapRequest {
                authoritative,
                probe,
                smr,
                pitr,
                smr_invoked,
                local_xtr,
                dont_map_reply,
                nonce,
                source_eid,
                itr_rlocs,
                records,
                map_reply_record,
                xtr_site,
            }
        })
}

/// Any Map-Reply.
pub(crate) fn map_reply() -> impl Strategy<Value = MapReply> {
    (any::<[bool; 2]>(), nonce(), vec(eid_record(), 0..4), option::of(vec(any::<u8>(), 4..40))).prop_map(
        |([probe, echo_nonce], nonce, records, security)| MapReply {
            probe,
            echo_nonce,
            security: security.is_some(),
            nonce,
            records,
            security_data: security.unwrap_or_default(),
        },
    )
}

/// Any Map-Register; its authentication data is arbitrary, too.
pub(crate) fn map_register() -> impl Strategy<Value = MapRegister> {
    (any::<[bool; 7]>(), nonce(), auth_data(), vec(eid_record(), 0..4), option::of(xtr_site())).prop_map(
        |(flags, nonce, auth, records, xtr_site)| {
            let [proxy_reply, lisp_sec, eid_notify, use_ttl, merge, rtr, want_notify] = flags;
            MapRegister {
                proxy_reply,
                lisp_sec,
                eid_notify,
                use_ttl,
                merge,
                rtr,
                want_notify,
                nonce,
                auth,
                records,
                xtr_site,
            }
        },
    )
}

/// Any Map-Notify or Map-Notify-Ack; its authentication data is arbitrary, too.
pub(crate) fn map_notify() -> impl Strategy<Value = MapNotify> {
    (
        nonce(),
        auth_data(),
        vec(eid_record(), 0..4),
        option::of(xtr_site()),
        option::of(vec(any::<u8>(), 0..30)),
    )
        .prop_map(|(nonce, auth, records, xtr_site, rtr_auth)| MapNotify {
            rtr: rtr_auth.is_some(),
            nonce,
            auth,
            records,
            xtr_site,
            rtr_auth: rtr_auth.unwrap_or_default(),
        })
}

/// Any Map-Referral.
pub(crate) fn map_referral() -> impl Strategy<Value = MapReferral> {
    let signature = (any::<[u8; 14]>(), any::<[u8; 4]>(), vec(any::<u8>(), 0..40)).prop_map(
        |(before, after, signature)| {
            let len = (signature.len() as u16).to_be_bytes();
            [before.as_slice(), &len, &after, &signature].concat()
        },
    );
    let record = (any::<bool>(), eid_record(), vec(signature, 0..3))
        .prop_map(|(incomplete, record, signatures)| ReferralRecord { incomplete, record, signatures });
    (nonce(), vec(record, 0..3)).prop_map(|(nonce, records)| MapReferral { nonce, records })
}

/// Any Info-Request or Info-Reply.
pub(crate) fn info() -> impl Strategy<Value = Info> {
    (any::<bool>(), nonce(), auth_data(), any::<u32>(), eid_address(), address())
        .prop_map(|(reply, nonce, auth, ttl, eid, nat)| Info { reply, nonce, auth, ttl: Ttl(ttl), eid, nat })
}

/// Any Shared Extension.
pub(crate) fn shared_extension() -> impl Strategy<Value = SharedExtension> {
    let sub_type = (0..=0x0fffu16).prop_filter("has a variant of its own", |sub_type| {
        !matches!(*sub_type, CACHE_SYNC | CACHE_SYNC_ACK)
    });
    (sub_type, any::<u16>(), vec(any::<u8>(), 0..40)).prop_map(|(sub_type, flags, payload)| SharedExtension {
        sub_type,
        flags,
        payload,
    })
}

/// Any sync-record, those of kinds that nobody knows included.
fn sync_record() -> impl Strategy<Value = SyncRecord> {
    let kind = (0..=250u8).prop_map(|kind| if kind == 0 { 0 } else { kind + 5 });
    prop_oneof![
        (any::<[bool; 2]>(), any::<[u32; 2]>(), any::<[u16; 2]>(), eid_record()).prop_map(
            |([copy, echoes], [seconds, age], [millis, inside], record)| SyncRecord::Mapping(SyncMapping {
                copy,
                echoes,
                seconds,
                millis,
                inside,
                age,
                record
            })
        ),
        (address(), any::<bool>()).prop_map(|(address, up)| SyncRecord::Locator { address, up }),
        (any::<u64>(), address()).prop_map(|(challenge, to)| SyncRecord::Hello { challenge, to }),
        (any::<u64>(), nonce(), address()).prop_map(|(challenge, last, to)| SyncRecord::HelloReply {
            challenge,
            last,
            to
        }),
        (nonce(), any::<u32>()).prop_map(|(first, messages)| SyncRecord::Whole { first, messages }),
        (kind, any::<u8>(), vec(any::<u8>(), 0..30)).prop_map(|(kind, flags, content)| SyncRecord::Unknown {
            kind,
            flags,
            content
        }),
    ]
}

/// Any CacheSync; its authentication data is arbitrary, too.
pub(crate) fn cache_sync() -> impl Strategy<Value = CacheSync> {
    (any::<[bool; 6]>(), nonce(), auth_data(), any::<[u64; 2]>(), vec(sync_record(), 0..4)).prop_map(
        |([want_ack, naive, smart, request, transfer, end], nonce, auth, [session, receiver], records)| {
            CacheSync {
                want_ack,
                naive,
                smart,
                request,
                transfer,
                end,
                nonce,
                auth,
                session,
                receiver,
                records,
            }
        },
    )
}

/// Any CacheSync-Ack.
pub(crate) fn cache_sync_ack() -> impl Strategy<Value = CacheSyncAck> {
    (nonce(), auth_data(), any::<[u64; 2]>(), vec(sync_record(), 0..4)).prop_map(
        |(nonce, auth, [session, receiver], records)| CacheSyncAck {
            nonce,
            auth,
            session,
            receiver,
            records,
        },
    )
}

/// An ECM around `payload`.
pub(crate) fn ecm(payload: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Ecm> {
    let pair = prop_oneof![
        any::<[[u8; 4]; 2]>().prop_map(|pair| pair.map(IpAddr::from)),
        any::<[[u8; 16]; 2]>().prop_map(|pair| pair.map(IpAddr::from)),
    ];
    // AD type 1: one-time key of any length, then an EID-AD that counts its own length field (RFC 9303
    // §6.1).
    let security =
        (any::<[u8; 3]>(), vec(any::<u8>(), 0..30), vec(any::<u8>(), 2..40)).prop_map(|(a, otk, eid_ad)| {
            let otk_len = (otk.len() as u16).to_be_bytes();
            let eid_ad_len = (eid_ad.len() as u16 + 2).to_be_bytes();
            [&[1], a.as_slice(), &otk_len, &[0, 1], &otk, &eid_ad_len, &eid_ad].concat()
        });
    (any::<bool>(), option::of(security), pair, any::<[u16; 2]>(), payload).prop_map(
        |(ddt, security, [source, destination], [source_port, destination_port], payload)| Ecm {
            ddt,
            security,
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
            payload,
        },
    )
}

/// Any message but an ECM.
pub(crate) fn bare_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        map_request().prop_map(Message::MapRequest),
        map_reply().prop_map(Message::MapReply),
        map_register().prop_map(Message::MapRegister),
        map_notify().prop_map(Message::MapNotify),
        map_notify().prop_map(Message::MapNotifyAck),
        map_referral().prop_map(Message::MapReferral),
        info().prop_map(Message::Info),
        shared_extension().prop_map(Message::SharedExtension),
        cache_sync().prop_map(Message::CacheSync),
        cache_sync_ack().prop_map(Message::CacheSyncAck),
    ]
}

/// Any message; ECMs carry another one.
pub(crate) fn message() -> impl Strategy<Value = Message> {
    let inner = bare_message().prop_map(|message| message.encode().unwrap());
    prop_oneof![4 => bare_message(), 1 => ecm(inner).prop_map(Message::Ecm)]
}
