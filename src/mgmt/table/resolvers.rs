//! Table of an ITR's Map-Resolvers.

use std::fmt::Write as _;

use super::text::{age, append, or_dash, prefix, table};
use crate::mgmt::view::{ResolverState, Resolvers};

/// `show resolvers`: one line per Map-Resolver, EID space and address.
pub fn resolvers(view: &Resolvers) -> String {
    let mut text = format!("LISP Map-Resolvers: {}", view.resolvers.len());
    if !view.selection.is_empty() {
        let _ = write!(text, ", selection: {}", view.selection);
    }
    text.push_str("\n\n");
    let mut lines = table(
        [
            "Map-Resolver",
            "Address",
            "EID space",
            "State",
            "Response",
            "Requests",
            "Answers",
            "Timeouts",
            "Last answer",
        ],
        &[4, 5, 6, 7],
    );
    for r in &view.resolvers {
        let state = match r.state {
            ResolverState::Unresolved => "unresolved",
            ResolverState::Untried => "untried",
            ResolverState::Up => "up",
            ResolverState::Silent => "silent",
        };
        lines.add_row([
            r.host.clone(),
            or_dash(r.address),
            r.space.as_ref().map_or_else(|| "all others".into(), prefix),
            state.into(),
            r.response_ms.map_or_else(|| "-".into(), |ms| format!("{ms:.1} ms")),
            r.requests.to_string(),
            r.answers.to_string(),
            r.timeouts.to_string(),
            age(r.last_answer),
        ]);
    }
    append(&mut text, &lines, 0);
    text
}
