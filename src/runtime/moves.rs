//! EID-prefixes that an operator says are here, or no longer: passes that on, and answers once it is known
//! what the Map-Servers say, or the time for that is over.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::mgmt::protocol::Reply;
use crate::mgmt::table;
use crate::mgmt::view::{MoveOutcome, Moved};
use crate::proto::control::{ControlPlane, Move, MoveState};
use crate::types::{EidPrefix, Instant};

/// Nobody waits longer, in seconds.
const LONGEST_WAIT: u8 = 60;

/// What is said.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commanded {
    pub(super) prefix: EidPrefix,
    pub(super) away: bool,
    pub(super) priority: Option<u8>,
    /// Seconds that the answer may take.
    pub(super) wait: u8,
}

/// Those who wait for an answer.
#[derive(Debug, Default)]
pub(super) struct Moves {
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    prefix: EidPrefix,
    priority: Option<u8>,
    until: Instant,
    answer: oneshot::Sender<Reply>,
}

impl Moves {
    /// Has it done, and answers now or later.
    pub(super) fn command(
        &mut self,
        plane: &mut ControlPlane,
        command: Commanded,
        answer: oneshot::Sender<Reply>,
        now: Instant,
    ) {
        let Commanded { prefix, away, priority, wait } = command;
        let what = if away { Move::Away } else { Move::Here { priority } };
        // Sending fails only when the client has gone.
        if let Err(error) = plane.move_eid(prefix, what, now) {
            tracing::warn!("{prefix} can't be moved: {error}");
            let _ = answer.send(Reply::Error(format!("{prefix} can't be moved: {error}")));
            return;
        }
        tracing::info!("{prefix}: told by command that it is {}", if away { "elsewhere" } else { "here" });
        if away || wait == 0 {
            let underway = moved(prefix, priority, None);
            let _ = answer.send(Reply::Moved(Moved { here: !away, ..underway }));
            return;
        }
        let until = now + Duration::from_secs(wait.min(LONGEST_WAIT).into());
        self.waiting.push(Waiting { prefix, priority, until, answer });
    }

    /// Answers those who need not wait any longer.
    pub(super) fn look(&mut self, plane: &ControlPlane, now: Instant) {
        for waiting in std::mem::take(&mut self.waiting) {
            let state = plane.move_state(&waiting.prefix);
            let may_change = matches!(state, MoveState::Unconfirmed(_) | MoveState::NoLocators);
            if may_change && waiting.until > now && !waiting.answer.is_closed() {
                self.waiting.push(waiting);
                continue;
            }
            let moved = moved(waiting.prefix, waiting.priority, Some(state));
            if !moved.outcome.is_good() {
                tracing::warn!("{}", table::moved(&moved));
            }
            let _ = waiting.answer.send(Reply::Moved(moved));
        }
    }

    /// When to [look](Self::look) again at the latest.
    pub(super) fn next(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }
}

fn moved(prefix: EidPrefix, priority: Option<u8>, state: Option<MoveState>) -> Moved {
    let (mut map_servers, mut rloc) = (Vec::new(), None);
    let outcome = match state {
        None => MoveOutcome::Underway,
        Some(MoveState::Registered) => MoveOutcome::Registered,
        Some(MoveState::Unconfirmed(servers)) => {
            map_servers = servers;
            MoveOutcome::Unconfirmed
        }
        Some(MoveState::Refused(servers)) => {
            map_servers = servers;
            MoveOutcome::Refused
        }
        Some(MoveState::Elsewhere(other)) => {
            rloc = other;
            MoveOutcome::Elsewhere
        }
        Some(MoveState::NoLocators) => MoveOutcome::NoLocators,
        Some(MoveState::Left) => MoveOutcome::Left,
    };
    let here = !matches!(outcome, MoveOutcome::Elsewhere | MoveOutcome::Left);
    Moved { prefix, here, priority, outcome, map_servers, rloc }
}
