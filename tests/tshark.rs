//! Messages that we encode, judged by tshark: an implementation that nobody here wrote.

#[path = "support/tshark.rs"]
mod judge;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use eidolon::auth::{Algorithm, Key, Secret, seal};
use eidolon::types::{Action, Eid, EidPrefix, InstanceId, MapVersion, Nonce, SiteId, Ttl, XtrId};
use eidolon::wire::{
    Address, AuthData, Ecm, EidAddress, EidRecord, ElpHop, Info, Lcaf, LocatorRecord, MapNotify, MapReferral,
    MapRegister, MapReply, MapRequest, Message, NatTraversal, ReferralRecord, RleEntry, SharedExtension,
    XtrSite,
};
use etherparse::PacketBuilder;
use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(iid: u32, text: &str) -> EidAddress {
    EidPrefix::new(InstanceId::new(iid).unwrap(), text.parse().unwrap()).into()
}

fn locator(priority: u8, address: impl Into<Address>) -> LocatorRecord {
    LocatorRecord {
        priority,
        weight: 100 - priority,
        mpriority: 255,
        mweight: 3,
        local: priority == 1,
        probe: priority == 2,
        reachable: priority != 3,
        address: address.into(),
    }
}

fn record(eid: EidAddress, locators: Vec<LocatorRecord>) -> EidRecord {
    EidRecord {
        ttl: Ttl(1440),
        action: Action::NoAction,
        authoritative: true,
        version: MapVersion::new(0xabc),
        eid,
        locators,
    }
}

fn usual_record() -> EidRecord {
    record(
        prefix(0, "153.16.38.0/25"),
        vec![
            locator(1, ip("132.227.62.242")),
            locator(2, ip("2001:660:240::242")),
            locator(3, ip("192.0.2.3")),
        ],
    )
}

fn ids() -> XtrSite {
    XtrSite { xtr_id: XtrId([0x11; 16]), site_id: SiteId(0x2222_3333) }
}

fn key(algorithm: Algorithm, truncate: bool) -> Key {
    Key { id: 3, algorithm, secret: Secret::new("secret"), truncate }
}

fn map_requests() -> Vec<Message> {
    let request = || MapRequest {
        nonce: Nonce(0x0123_4567_89ab_cdef),
        itr_rlocs: vec![ip("192.0.2.1").into()],
        records: vec![prefix(0, "10.1.1.1/32")],
        ..MapRequest::default()
    };
    vec![
        request(),
        MapRequest {
            authoritative: true,
            probe: true,
            local_xtr: true,
            source_eid: ip("10.0.0.1").into(),
            records: vec![prefix(0, "2001:db8:2::/48"), prefix(7, "10.2.0.0/16"), prefix(8, "2001:db8::/32")],
            itr_rlocs: (0..32).map(|i| ip(&format!("192.0.2.{i}")).into()).collect(),
            ..request()
        },
        MapRequest {
            smr: true,
            dont_map_reply: true,
            pitr: true,
            source_eid: Eid::new(InstanceId::DEFAULT, ip("2001:db8::1")).into(),
            itr_rlocs: vec![ip("2001:db8::1").into(), ip("192.0.2.1").into()],
            map_reply_record: Some(usual_record()),
            ..request()
        },
        MapRequest { smr_invoked: true, ..request() },
    ]
    .into_iter()
    .map(Message::MapRequest)
    .collect()
}

fn map_replies() -> Vec<Message> {
    let negative = (0..8).map(|bits| EidRecord {
        action: Action::from_bits(bits),
        authoritative: bits % 2 == 0,
        ttl: Ttl(if bits == 7 { u32::MAX } else { 15 }),
        ..record(prefix(u32::from(bits) * 1000, "2001:db8::/33"), Vec::new())
    });
    let lcaf = |lcaf| locator(1, Address::Lcaf(lcaf));
    let addresses = || vec![ip("192.0.2.1").into(), ip("2001:db8::1").into()];
    let hop = |address: IpAddr| ElpHop { lookup: true, probe: false, strict: true, address: address.into() };
    let lcafs = vec![
        lcaf(Lcaf::List(addresses())),
        lcaf(Lcaf::ExplicitLocatorPath(vec![hop(ip("192.0.2.1")), hop(ip("2001:db8::1"))])),
        lcaf(Lcaf::ReplicationList(vec![RleEntry { level: 2, address: ip("192.0.2.1").into() }])),
    ];
    let pair = (Box::new(Address::Ip(ip("10.0.0.0"))), Box::new(Address::Ip(ip("10.1.0.0"))));
    let source_dest = Lcaf::SourceDest {
        source_mask_len: 24,
        dest_mask_len: 16,
        source: pair.0.clone(),
        dest: pair.1.clone(),
    };
    let multicast = Lcaf::Multicast {
        flags: 0,
        iid: 5,
        source_mask_len: 32,
        group_mask_len: 32,
        source: pair.0,
        group: Box::new(Address::Ip(ip("239.1.1.1"))),
    };
    let eid = |lcaf| EidAddress { mask_len: 0, address: Address::Lcaf(lcaf) };
    let reply = |records| MapReply { nonce: Nonce(7), records, ..MapReply::default() };
    vec![
        MapReply { probe: true, echo_nonce: true, ..reply(vec![usual_record(), usual_record()]) },
        reply(negative.collect()),
        reply(vec![record(prefix(0, "0.0.0.0/0"), lcafs)]),
        reply(vec![record(eid(source_dest), Vec::new()), record(eid(multicast), Vec::new())]),
        reply(vec![record(
            prefix(0, "10.0.0.0/8"),
            (0..255).map(|i| locator(i % 4, ip("192.0.2.9"))).collect(),
        )]),
    ]
    .into_iter()
    .map(Message::MapReply)
    .collect()
}

fn authenticated() -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    for algorithm in Algorithm::ALL {
        for truncate in [false, true] {
            for xtr_site in [None, Some(ids())] {
                let records = vec![usual_record(), record(prefix(0xff_ffff, "10.3.0.0/16"), Vec::new())];
                let auth = AuthData::default();
                let register = MapRegister {
                    proxy_reply: truncate,
                    want_notify: true,
                    nonce: Nonce(1),
                    auth: auth.clone(),
                    records: records.clone(),
                    xtr_site,
                    ..MapRegister::default()
                };
                let notify = MapNotify { nonce: Nonce(2), auth, records, xtr_site, ..MapNotify::default() };
                for message in [
                    Message::MapRegister(register),
                    Message::MapNotify(notify.clone()),
                    Message::MapNotifyAck(notify),
                ] {
                    bytes.push(seal(message, &key(algorithm, truncate)).unwrap());
                }
            }
        }
    }
    bytes
}

fn others() -> Vec<Message> {
    let info =
        |reply, eid, nat| Info { reply, nonce: Nonce(3), auth: AuthData::default(), ttl: Ttl(2), eid, nat };
    let nat = NatTraversal {
        ms_port: 4342,
        etr_port: 61_000,
        global_etr: ip("198.51.100.1").into(),
        ms: ip("192.0.2.7").into(),
        private_etr: ip("10.9.9.9").into(),
        rtrs: vec![ip("203.0.113.1").into()],
    };
    let referral = |bits| ReferralRecord {
        incomplete: bits == 5,
        record: EidRecord { action: Action::from_bits(bits), ..usual_record() },
        signatures: Vec::new(),
    };
    vec![
        Message::Info(info(false, prefix(0, "10.0.0.0/8"), Address::None)),
        Message::Info(info(
            true,
            prefix(0, "2001:db8::/32"),
            Address::Lcaf(Lcaf::NatTraversal(Box::new(nat))),
        )),
        Message::MapReferral(MapReferral { nonce: Nonce(4), records: (0..6).map(referral).collect() }),
        Message::SharedExtension(SharedExtension { sub_type: 1062, flags: 1, payload: vec![1, 2, 3] }),
    ]
}

/// ECMs of both families around each of `messages`.
fn encapsulated(messages: &[Message]) -> Vec<Message> {
    let families = [("192.0.2.1:61000", "10.1.1.1:4342"), ("[2001:db8::1]:61001", "[2001:db8:1::1]:4342")];
    let mut ecms = Vec::new();
    for message in messages {
        for (source, destination) in families {
            ecms.push(Message::Ecm(Ecm {
                ddt: source.starts_with('1'),
                security: None,
                source: source.parse().unwrap(),
                destination: destination.parse().unwrap(),
                payload: message.encode().unwrap(),
            }));
        }
    }
    ecms
}

fn write(path: &Path, payloads: &[Vec<u8>]) {
    let file = std::fs::File::create(path).unwrap();
    let header = PcapHeader { datalink: DataLink::RAW, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(file, header).unwrap();
    for (i, payload) in payloads.iter().enumerate() {
        let builder = PacketBuilder::ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64).udp(4342, 4342);
        let mut packet = Vec::new();
        builder.write(&mut packet, payload).unwrap();
        let time = Duration::from_secs(1_700_000_000 + i as u64);
        writer.write_packet(&PcapPacket::new(time, packet.len() as u32, &packet)).unwrap();
    }
}

fn all() -> Vec<Vec<u8>> {
    let mut messages = map_requests();
    messages.extend(encapsulated(&map_requests()));
    messages.extend(map_replies());
    messages.extend(others());
    let mut payloads: Vec<Vec<u8>> = messages.iter().map(|message| message.encode().unwrap()).collect();
    payloads.extend(authenticated());
    payloads
}

#[test]
fn tshark_reads_our_messages_as_we_do() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("messages.pcap");
    let payloads = all();
    write(&file, &payloads);
    assert_eq!(judge::assert_agrees(&file), payloads.len());
}

/// What [`judge`] does not compare for every message: flags, LCAFs, NAT traversal, inner headers of ECMs.
#[test]
fn tshark_agrees_on_flags_lcafs_and_inner_headers() {
    let dir = tempfile::tempdir().unwrap();
    let check = |messages: &[Message], names: &[&str], expected: &[&[&str]]| {
        let file = dir.path().join("some.pcap");
        write(&file, &messages.iter().map(|message| message.encode().unwrap()).collect::<Vec<_>>());
        let rows = judge::fields(&file, "lisp", names);
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|row| row.into_iter().map(|cell| cell.join("|")).collect()).collect();
        assert_eq!(rows, expected, "{names:?}");
    };
    check(
        &map_requests(),
        &[
            "lisp.mreq.flags.auth",
            "lisp.mreq.flags.mrp",
            "lisp.mreq.flags.probe",
            "lisp.mreq.flags.smr",
            "lisp.mreq.flags.pitr",
            "lisp.mreq.flags.smri",
            "lisp.mreq.srceid.ipv4",
            "lisp.mreq.srceid_ipv6",
        ],
        &[
            &["0", "0", "0", "0", "0", "0", "", ""],
            &["1", "0", "1", "0", "0", "0", "10.0.0.1", ""],
            &["0", "1", "0", "1", "1", "0", "", "2001:db8::1"],
            &["0", "0", "0", "0", "0", "1", "", ""],
        ],
    );
    check(
        &map_replies()[2..4],
        &[
            "lisp.lcaf.type",
            "lisp.lcaf.afi_list.ipv4",
            "lisp.lcaf.afi_list.ipv6",
            "lisp.lcaf.elp_hop.ipv4",
            "lisp.lcaf_elp_hop.flags.strict",
            "lisp.lcaf.elp_hop.flags.probe",
            "lisp.lcaf.rle_entry.level",
            "lisp.lcaf.srcdst.src.masklen",
            "lisp.lcaf.srcdst.dst.ipv4",
            "lisp.lcaf.mcinfo_iid",
            "lisp.lcaf.mcinfo.grp.ipv4",
        ],
        &[
            &["1|10|13", "192.0.2.1", "2001:db8::1", "192.0.2.1", "1|1", "0|0", "2", "", "", "", ""],
            &["12|9", "", "", "", "", "", "", "24", "10.1.0.0", "5", "239.1.1.1"],
        ],
    );
    check(
        &others()[..3],
        &[
            "lisp.info.r",
            "lisp.info.ttl",
            "lisp.info.prefix.masklen",
            "lisp.lcaf.natt.msport",
            "lisp.lcaf.natt.etrport",
            "lisp.lcaf.natt.rloc.ipv4",
            "lisp.referral.incomplete",
        ],
        &[
            &["0", "2", "8", "", "", "", ""],
            &["1", "2", "32", "4342", "61000", "198.51.100.1|192.0.2.7|10.9.9.9|203.0.113.1", ""],
            &["", "", "", "", "", "", "0|0|0|0|0|1"],
        ],
    );
    // Checksums of the inner headers are those that tshark computes: 1 is "good".
    let ecms = encapsulated(&map_requests()[..1]);
    check(
        &ecms,
        &[
            "lisp.ecm.flags.ddt",
            "ip.src",
            "ipv6.src",
            "ipv6.dst",
            "udp.srcport",
            "ip.checksum.status",
            "udp.checksum.status",
            "ip.ttl",
            "ipv6.hlim",
        ],
        &[
            &["1", "192.0.2.1|192.0.2.1", "", "", "4342|61000", "1|1", "1|1", "64|64", ""],
            &["0", "192.0.2.1", "2001:db8::1", "2001:db8:1::1", "4342|61001", "1", "1|1", "64", "64"],
        ],
    );
}

/// VRRP of both versions and families, and the frames by which a new master tells the link where its
/// addresses are.
#[test]
fn tshark_agrees_on_vrrp() {
    use eidolon::wire::vrrp::{
        Advertisement, Body, Checksum, Envelope, advertisement_frame, announcement_frame, virtual_mac,
    };

    let v3 = |interval, addresses: &[&str]| Advertisement {
        vrid: 10,
        priority: 150,
        body: Body::V3 { interval },
        addresses: addresses.iter().map(|address| ip(address)).collect(),
    };
    let v2 = Body::V2 { interval: 3, auth_type: 1, auth_data: *b"password" };
    let sent = [
        ("192.0.2.1", v3(4095, &["192.0.2.254", "192.0.2.253"])),
        ("fe80::1", v3(1, &["fe80::fe", "2001:db8::fe"])),
        ("192.0.2.1", Advertisement { body: v2, priority: 0, ..v3(0, &["192.0.2.254"]) }),
    ];
    let mut frames: Vec<Vec<u8>> = sent
        .iter()
        .map(|(source, advertisement)| {
            let source = ip(source);
            let bytes = advertisement.encode(&Envelope::multicast(source), Checksum::PseudoHeader).unwrap();
            let family = eidolon::types::Family::of(&source);
            advertisement_frame(virtual_mac(family, 10), source, &bytes).unwrap()
        })
        .collect();
    frames.push(announcement_frame([2, 0, 0, 0, 0, 1], ip("192.0.2.254")));
    frames.push(announcement_frame([2, 0, 0, 0, 0, 1], ip("2001:db8::fe")));

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vrrp.pcap");
    let header = PcapHeader { datalink: DataLink::ETHERNET, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(std::fs::File::create(&file).unwrap(), header).unwrap();
    for frame in &frames {
        let packet = PcapPacket::new(Duration::from_secs(1), frame.len() as u32, frame);
        writer.write_packet(&packet).unwrap();
    }
    drop(writer);
    let check = |filter: &str, names: &[&str], expected: &[&[&str]]| {
        let rows = judge::fields(&file, filter, names);
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|row| row.into_iter().map(|cell| cell.join("|")).collect()).collect();
        assert_eq!(rows, expected, "{names:?}");
    };
    check(
        "vrrp",
        &[
            "eth.src",
            "eth.dst",
            "vrrp.version",
            "vrrp.virt_rtr_id",
            "vrrp.prio",
            "vrrp.addr_count",
            "vrrp.short_adver_int",
            "vrrp.adver_int",
            "vrrp.checksum.status",
            "vrrp.ip_addr",
            "vrrp.ipv6_addr",
            "vrrp.auth_string",
            "_ws.malformed",
        ],
        &[
            &[
                "00:00:5e:00:01:0a",
                "01:00:5e:00:00:12",
                "3",
                "10",
                "150",
                "2",
                "4095",
                "",
                "1",
                "192.0.2.254|192.0.2.253",
                "",
                "",
                "",
            ],
            &[
                "00:00:5e:00:02:0a",
                "33:33:00:00:00:12",
                "3",
                "10",
                "150",
                "2",
                "1",
                "",
                "1",
                "",
                "fe80::fe|2001:db8::fe",
                "",
                "",
            ],
            &[
                "00:00:5e:00:01:0a",
                "01:00:5e:00:00:12",
                "2",
                "10",
                "0",
                "1",
                "",
                "3",
                "1",
                "192.0.2.254",
                "",
                "password",
                "",
            ],
        ],
    );
    check(
        "arp || icmpv6",
        &["arp.isgratuitous", "arp.src.proto_ipv4", "icmpv6.nd.na.target_address", "icmpv6.checksum.status"],
        &[&["1", "192.0.2.254", "", ""], &["", "", "2001:db8::fe", "1"]],
    );
}
