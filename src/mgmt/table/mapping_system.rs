//! Tables of a Map-Server.

use std::fmt::Write as _;

use super::text::{age, append, count, interval, key, table};
use crate::mgmt::view::{Site, SitePrefix, SiteRegistration, Sites};
use crate::types::XtrId;

/// `show sites`: one line per EID-prefix and ETR that registers it, or one that says that nobody does. A
/// prefix that is registered within a configured one has a `*`.
pub fn sites(view: &Sites) -> String {
    let shown = view.sites.iter().map(|s| s.prefixes.len()).sum::<usize>();
    let total = usize::try_from(view.total).unwrap_or(usize::MAX);
    let mut text = format!(
        "LISP sites: {}, {} of {} registered",
        view.sites.len(),
        view.registered,
        count(total, "EID-prefix", "EID-prefixes"),
    );
    if shown != total {
        let _ = write!(text, ", {shown} shown");
    }
    text.push_str("\n\n");
    let mut lines = table(
        [
            "Site",
            "Last register",
            "Up",
            "Who last registered",
            "Inst",
            "EID-prefix",
            "Since",
            "Expires",
            "Key",
            "Locators",
        ],
        &[4],
    );
    for site in &view.sites {
        for prefix in &site.prefixes {
            for (i, registration) in prefix.registrations.iter().enumerate() {
                lines.add_row(line(site, prefix, Some(registration), i == 0));
            }
            if prefix.registrations.is_empty() {
                lines.add_row(line(site, prefix, None, true));
            }
        }
    }
    append(&mut text, &lines, 0);
    text
}

fn line(
    site: &Site,
    prefix: &SitePrefix,
    registration: Option<&SiteRegistration>,
    first: bool,
) -> [String; 10] {
    let more_specific = if prefix.configured { "" } else { " *" };
    let eid = format!("{}{more_specific}", prefix.eid.net);
    let [name, iid, eid] =
        if first { [site.name.clone(), prefix.eid.iid.to_string(), eid] } else { Default::default() };
    let Some(r) = registration else {
        let none = || "--".to_owned();
        let last = age(prefix.last_register);
        return [name, last, "no".into(), none(), iid, eid, none(), none(), none(), none()];
    };
    let locators: Vec<_> = r
        .locators
        .iter()
        .map(|l| format!("{} {}/{}{}", l.rloc, l.priority, l.weight, if l.reachable { "" } else { " down" }))
        .collect();
    let up = match (r.proxy_reply, r.merge) {
        (false, false) => "yes",
        (true, false) => "yes, proxy",
        (false, true) => "yes, merged",
        (true, true) => "yes, proxy, merged",
    };
    [
        name,
        interval(r.last),
        up.into(),
        registrant(r),
        iid,
        eid,
        interval(r.since),
        interval(r.expires),
        key(r.key.as_ref()),
        locators.join(", "),
    ]
}

/// Where a registration comes from, and the xTR-ID of who sent it, if it says that.
fn registrant(registration: &SiteRegistration) -> String {
    match registration.xtr_id {
        Some(XtrId(id)) => format!("{} (xTR {:#x})", registration.registered_by, u128::from_be_bytes(id)),
        None => registration.registered_by.to_string(),
    }
}
