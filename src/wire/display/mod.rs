//! The readable form of any message, for debug logs and for decoding captures.
//!
//! [`Message::tree`] is a tree of named fields, [`Message::summary`] one line, and [`HexDump`] shows the raw
//! bytes.

mod address;
mod summary;
mod tree;

pub use summary::Summary;
pub use tree::{Field, Object, Value};

use std::fmt;

use super::{
    Address, AuthData, CACHE_SYNC, CACHE_SYNC_ACK, CacheSync, CacheSyncAck, Ecm, EidAddress, EidRecord, Info,
    Lcaf, LocatorRecord, MapNotify, MapReferral, MapRegister, MapReply, MapRequest, Message, ReferralRecord,
    SharedExtension, SyncRecord, XtrSite,
};

/// ECMs within ECMs that are shown; nobody needs more than one.
const MAX_NESTED: usize = 3;

impl Message {
    /// Every field of the message, in the order of its layout.
    pub fn tree(&self) -> Value {
        self.nested_tree(0)
    }

    /// One line for logs: what the message is and what it is about.
    pub const fn summary(&self) -> Summary<'_> {
        Summary::new(self)
    }

    fn nested_tree(&self, nesting: usize) -> Value {
        let header = Object::new().field("type_name", self.name()).field("lisp_type", self.kind().number());
        match self {
            Self::MapRequest(message) => map_request(header, message),
            Self::MapReply(message) => map_reply(header, message),
            Self::MapRegister(message) => map_register(header, message),
            Self::MapNotify(message) | Self::MapNotifyAck(message) => map_notify(header, message),
            Self::MapReferral(message) => map_referral(header, message),
            Self::Info(message) => info(header, message),
            Self::Ecm(message) => ecm(header, message, nesting),
            Self::SharedExtension(message) => shared_extension(header, message),
            Self::CacheSync(message) => cache_sync(header, message),
            Self::CacheSyncAck(message) => cache_sync_ack(header, message),
        }
        .into()
    }
}

/// The name of an algorithm ID (RFC 9301 §12.5).
pub const fn algorithm_name(id: u8) -> &'static str {
    match id {
        0 => "none",
        1 => "HMAC-SHA-1-96",
        2 => "HMAC-SHA-256-128",
        3 => "HMAC-SHA-256-128+HKDF-SHA256",
        _ => "unknown",
    }
}

/// The name of a referral action (RFC 8111 §6.1).
pub const fn referral_action_name(bits: u8) -> &'static str {
    match bits {
        0 => "node-referral",
        1 => "ms-referral",
        2 => "ms-ack",
        3 => "ms-not-registered",
        4 => "delegation-hole",
        5 => "not-authoritative",
        _ => "unassigned",
    }
}

/// Bytes as hex digits without anything between them.
#[derive(Clone, Copy, Debug)]
pub struct Hex<'a>(pub &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Bytes as lines of offset, 16 bytes in hex, and their ASCII characters.
#[derive(Clone, Copy, Debug)]
pub struct HexDump<'a>(pub &'a [u8]);

impl fmt::Display for HexDump<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, line) in self.0.chunks(16).enumerate() {
            write!(f, "{:04x} ", i * 16)?;
            for column in 0..16 {
                match line.get(column) {
                    Some(byte) => write!(f, " {byte:02x}")?,
                    None => f.write_str("   ")?,
                }
            }
            f.write_str("  ")?;
            for &byte in line {
                let printable = byte.is_ascii_graphic() || byte == b' ';
                write!(f, "{}", if printable { char::from(byte) } else { '.' })?;
            }
            f.write_str("\n")?;
        }
        Ok(())
    }
}

fn map_request(object: Object, message: &MapRequest) -> Object {
    let flags = Object::new()
        .field("authoritative", message.authoritative)
        .field("map_data_present", message.map_reply_record.is_some())
        .field("probe", message.probe)
        .field("smr", message.smr)
        .field("pitr", message.pitr)
        .field("smr_invoked", message.smr_invoked)
        .field("xtr_id_present", message.xtr_site.is_some())
        .field("local_xtr", message.local_xtr)
        .field("dont_map_reply", message.dont_map_reply);
    let object = object
        .field("flags", flags)
        .field("itr_rloc_count", message.itr_rlocs.len())
        .field("record_count", message.records.len())
        .text("nonce", message.nonce)
        .field("source_eid_afi", message.source_eid.afi())
        .field("source_eid", address(&message.source_eid))
        .list("itr_rlocs", &message.itr_rlocs, |rloc| {
            Object::new().field("afi", rloc.afi()).field("address", address(rloc)).into()
        })
        .list("records", &message.records, |record| eid(Object::new(), record).into())
        .optional("map_reply_record", message.map_reply_record.as_ref().map(record));
    ids(object, &message.xtr_site)
}

fn map_reply(object: Object, message: &MapReply) -> Object {
    let flags = Object::new()
        .field("probe", message.probe)
        .field("echo_nonce", message.echo_nonce)
        .field("security", message.security);
    let security = message.security.then(|| Hex(&message.security_data).to_string());
    object
        .field("flags", flags)
        .field("record_count", message.records.len())
        .text("nonce", message.nonce)
        .list("records", &message.records, record)
        .optional("security_data", security)
}

fn map_register(object: Object, message: &MapRegister) -> Object {
    let flags = Object::new()
        .field("proxy_reply", message.proxy_reply)
        .field("lisp_sec", message.lisp_sec)
        .field("xtr_id_present", message.xtr_site.is_some())
        .field("rtr", message.rtr)
        .field("eid_notify", message.eid_notify)
        .field("use_ttl", message.use_ttl)
        .field("merge", message.merge)
        .field("want_map_notify", message.want_notify);
    let object = object
        .field("flags", flags)
        .field("record_count", message.records.len())
        .text("nonce", message.nonce);
    ids(auth(object, &message.auth).list("records", &message.records, record), &message.xtr_site)
}

fn map_notify(object: Object, message: &MapNotify) -> Object {
    let flags = Object::new().field("xtr_id_present", message.xtr_site.is_some()).field("rtr", message.rtr);
    let object = object
        .field("flags", flags)
        .field("record_count", message.records.len())
        .text("nonce", message.nonce);
    let object = auth(object, &message.auth).list("records", &message.records, record);
    let rtr_auth = message.rtr.then(|| Hex(&message.rtr_auth).to_string());
    ids(object, &message.xtr_site).optional("rtr_auth_data", rtr_auth)
}

fn map_referral(object: Object, message: &MapReferral) -> Object {
    object.field("record_count", message.records.len()).text("nonce", message.nonce).list(
        "records",
        &message.records,
        |referral: &ReferralRecord| {
            let action = referral_action_name(referral.record.action.bits());
            let Value::Object(mut fields) = record(&referral.record) else { return action.into() };
            for field in &mut fields {
                if field.name == "action" {
                    field.value = action.into();
                }
            }
            let extra = Object::new()
                .field("incomplete", referral.incomplete)
                .field("signature_count", referral.signatures.len())
                .list("signatures", &referral.signatures, |signature| Hex(signature).to_string().into());
            if let Value::Object(extra) = extra.into() {
                fields.extend(extra);
            }
            Value::Object(fields)
        },
    )
}

fn info(object: Object, message: &Info) -> Object {
    let object =
        object.field("flags", Object::new().field("reply", message.reply)).text("nonce", message.nonce);
    let object = auth(object, &message.auth).field("ttl", message.ttl.0);
    eid(object, &message.eid).field("nat_afi", message.nat.afi()).field("nat", address(&message.nat))
}

fn ecm(object: Object, message: &Ecm, nesting: usize) -> Object {
    let flags = Object::new().field("security", message.security.is_some()).field("ddt", message.ddt);
    let header = Object::new()
        .text("source", message.source.ip())
        .field("source_port", message.source.port())
        .text("destination", message.destination.ip())
        .field("destination_port", message.destination.port());
    let object = object
        .field("flags", flags)
        .optional("security_data", message.security.as_ref().map(|data| Hex(data).to_string()))
        .field("inner_header", header);
    match Message::decode(&message.payload) {
        Ok(inner) if nesting < MAX_NESTED => object.field("inner_message", inner.nested_tree(nesting + 1)),
        Ok(_) => object.text("inner_payload", Hex(&message.payload)),
        Err(error) => object.text("inner_error", error).text("inner_payload", Hex(&message.payload)),
    }
}

fn shared_extension(object: Object, message: &SharedExtension) -> Object {
    object
        .field("sub_type", message.sub_type)
        .text("flags", format_args!("0x{:04x}", message.flags))
        .text("payload", Hex(&message.payload))
}

fn cache_sync(object: Object, message: &CacheSync) -> Object {
    let flags = Object::new()
        .field("want_ack", message.want_ack)
        .field("naive", message.naive)
        .field("smart", message.smart)
        .field("request", message.request)
        .field("transfer", message.transfer)
        .field("end", message.end);
    let object = object
        .field("sub_type", CACHE_SYNC)
        .field("flags", flags)
        .field("record_count", message.records.len())
        .text("nonce", message.nonce);
    sessions(auth(object, &message.auth), [message.session, message.receiver], &message.records)
}

fn cache_sync_ack(object: Object, message: &CacheSyncAck) -> Object {
    let object = object
        .field("sub_type", CACHE_SYNC_ACK)
        .field("record_count", message.records.len())
        .text("nonce", message.nonce);
    sessions(auth(object, &message.auth), [message.session, message.receiver], &message.records)
}

fn sessions(object: Object, [sender, receiver]: [u64; 2], records: &[SyncRecord]) -> Object {
    object
        .text("session", format_args!("{sender:016x}"))
        .text("receiver_session", format_args!("{receiver:016x}"))
        .list("records", records, sync_record)
}

fn sync_record(tell: &SyncRecord) -> Value {
    match tell {
        SyncRecord::Mapping(mapping) => Object::new()
            .field("kind", "mapping")
            .field("copy", mapping.copy)
            .field("echoes_nonces", mapping.echoes)
            .text("remaining", format_args!("{}.{:03}", mapping.seconds, mapping.millis))
            .field("age_ms", mapping.age)
            .field("more_specific", mapping.inside)
            .field("record", record(&mapping.record)),
        SyncRecord::Locator { address: rloc, up } => Object::new()
            .field("kind", "locator")
            .field("up", *up)
            .field("afi", rloc.afi())
            .field("address", address(rloc)),
        SyncRecord::Hello { challenge, to } => Object::new()
            .field("kind", "hello")
            .text("challenge", format_args!("{challenge:016x}"))
            .field("to", address(to)),
        SyncRecord::HelloReply { challenge, last, to } => Object::new()
            .field("kind", "hello-reply")
            .text("challenge", format_args!("{challenge:016x}"))
            .text("last_nonce", last)
            .field("to", address(to)),
        SyncRecord::Whole { first, messages } => {
            Object::new().field("kind", "whole").text("first_nonce", first).field("messages", *messages)
        }
        SyncRecord::Unknown { kind, flags, content } => Object::new()
            .field("kind", *kind)
            .text("flags", format_args!("0x{flags:02x}"))
            .text("content", Hex(content)),
    }
    .into()
}

fn auth(object: Object, auth: &AuthData) -> Object {
    object
        .field("key_id", auth.key_id)
        .field("algorithm", auth.algorithm)
        .field("algorithm_name", algorithm_name(auth.algorithm))
        .field("auth_length", auth.data.len())
        .text("auth_data", Hex(&auth.data))
}

fn ids(object: Object, ids: &Option<XtrSite>) -> Object {
    match ids {
        Some(ids) => object.text("xtr_id", ids.xtr_id).text("site_id", ids.site_id),
        None => object,
    }
}

fn eid(object: Object, eid: &EidAddress) -> Object {
    object
        .field("eid_mask_len", eid.mask_len)
        .field("eid_afi", eid.address.afi())
        .optional("eid_instance_id", instance(&eid.address))
        .text("eid_prefix", eid)
}

fn record(record: &EidRecord) -> Value {
    let object = Object::new()
        .field("ttl", record.ttl.0)
        .field("locator_count", record.locators.len())
        .text("action", record.action)
        .field("authoritative", record.authoritative)
        .field("map_version", record.version.get());
    eid(object, &record.eid).list("locators", &record.locators, locator).into()
}

fn locator(locator: &LocatorRecord) -> Value {
    Object::new()
        .field("priority", locator.priority)
        .field("weight", locator.weight)
        .field("multicast_priority", locator.mpriority)
        .field("multicast_weight", locator.mweight)
        .field("local", locator.local)
        .field("probe", locator.probe)
        .field("reachable", locator.reachable)
        .field("afi", locator.address.afi())
        .field("address", address(&locator.address))
        .into()
}

/// The text of an address; where a text would hide something, the parts as well.
fn address(address: &Address) -> Value {
    let Address::Lcaf(lcaf) = address else { return address.to_string().into() };
    let object = Object::new().text("text", address).field("lcaf_type", lcaf.kind());
    match lcaf {
        Lcaf::List(list) => object.list("addresses", list, |item| item.to_string().into()).into(),
        Lcaf::NatTraversal(nat) => object
            .field("ms_port", nat.ms_port)
            .field("etr_port", nat.etr_port)
            .text("global_etr_rloc", &nat.global_etr)
            .text("ms_rloc", &nat.ms)
            .text("private_etr_rloc", &nat.private_etr)
            .list("rtr_rlocs", &nat.rtrs, |rtr| rtr.to_string().into())
            .into(),
        Lcaf::ExplicitLocatorPath(hops) => object.list("hops", hops, |hop| hop.to_string().into()).into(),
        Lcaf::ReplicationList(entries) => {
            object.list("entries", entries, |entry| entry.to_string().into()).into()
        }
        Lcaf::SecurityKey { algorithm, revoked, keys, .. } => object
            .field("key_algorithm", *algorithm)
            .field("revoked", *revoked)
            .list("keys", keys, |key| Hex(key).to_string().into())
            .into(),
        Lcaf::Opaque { payload, .. } => object.text("payload", Hex(payload)).into(),
        Lcaf::InstanceId { .. } | Lcaf::Multicast { .. } | Lcaf::SourceDest { .. } => {
            address.to_string().into()
        }
    }
}

fn instance(address: &Address) -> Option<u32> {
    match address {
        Address::Lcaf(Lcaf::InstanceId { iid, .. } | Lcaf::Multicast { iid, .. }) => Some(*iid),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
