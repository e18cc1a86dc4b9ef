//! `[sync]`: synchronisation of the map-cache with the other xTRs of the site.

use std::net::IpAddr;
use std::time::Duration;

use crate::config::problem::{At, Place};
use crate::config::tree::Section;
use crate::proto::config::SyncMode;

use super::{RawKey, read_keys};

/// `[sync]`
#[derive(Clone, Debug)]
pub struct RawSync {
    /// The section.
    pub place: Place,
    /// `members`, required: the addresses of the site's other xTRs.
    pub members: Option<At<Vec<At<IpAddr>>>>,
    /// `mode`: `"smart"`, what was learnt is told, or `"naive"`, the whole map-cache is. Default `"smart"`.
    pub mode: Option<At<SyncMode>>,
    /// `ack`: whether messages are acknowledged, and sent again if not. Default true.
    pub ack: Option<At<bool>>,
    /// Its key, with the keys of [`RawKey`] in the section itself or, for several, in `[[sync.key]]`: the
    /// first is sent with, all are accepted.
    pub keys: Vec<RawKey>,
    /// `source`: our address in the lists of the others. Default: the kernel's choice.
    pub source: Option<At<IpAddr>>,
    /// `hello-interval`: how often a member is asked whether it is there, 1 s to 1 h. Default 10 s.
    pub hello_interval: Option<At<Duration>>,
    /// Something of it could not be read.
    pub incomplete: bool,
}

impl RawSync {
    /// `None` where the file has no such section.
    pub(super) fn read(root: &Section<'_>) -> Option<Self> {
        let has = root.has("sync");
        let s = root.section("sync");
        if !has {
            s.finish();
            return None;
        }
        s.require("members", "give the addresses of the site's other xTRs");
        let mut ok = true;
        let keys = read_keys(&s, "sync.key", &mut ok);
        let raw = Self {
            place: s.place().clone(),
            members: s.texts("members"),
            mode: s.text("mode"),
            ack: s.bool("ack"),
            keys,
            source: s.text("source"),
            hello_interval: s.text("hello-interval"),
            incomplete: false,
        };
        let incomplete = !s.finish() || !ok;
        Some(Self { incomplete, ..raw })
    }
}
