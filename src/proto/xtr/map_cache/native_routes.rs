//! What the kernel is told to forward natively, and which exceptions to that there are.
//!
//! Owns: the routes that follow from the entries. How the kernel is told is the control thread's business.

use crate::proto::context::Context;
use crate::types::EidPrefix;

use super::{Entry, MapCache};

impl MapCache {
    /// The kernel forwards natively what lies in a natively-forward entry, and must be told of the exceptions
    /// inside it, which it would not know of. Brings `prefix`, which was added, changed or removed, and the
    /// entries right inside it in line with that.
    pub(super) fn update_natives(&mut self, cx: &mut Context, prefix: &EidPrefix) {
        let outside = self.entries.covering(prefix).filter(|(p, _)| p != prefix).last();
        let outside = outside.is_some_and(|(_, entry)| entry.wants_native());
        let this = self.entries.get(prefix).map(Entry::wants_native);
        // What is right inside: not inside something else that is.
        let mut right_inside: Vec<EidPrefix> = Vec::new();
        for (inner, _) in self.entries.strictly_within(prefix) {
            if right_inside.last().is_none_or(|last| !last.covers(&inner)) {
                right_inside.push(inner);
            }
        }
        for inner in right_inside {
            self.set_routed(cx, &inner, this.unwrap_or(outside));
        }
        self.set_routed(cx, prefix, outside);
    }

    /// Tells the kernel about one entry, which is inside a natively-forward one or not.
    fn set_routed(&mut self, cx: &mut Context, prefix: &EidPrefix, inside_native: bool) {
        let Some(entry) = self.entries.get_mut(prefix) else { return };
        let native = entry.wants_native();
        let exception = inside_native && !native;
        if entry.exception != exception {
            entry.exception = exception;
            cx.native_exception(*prefix, exception);
        }
        if entry.native != native {
            entry.native = native;
            cx.native(*prefix, native);
        }
    }
}
