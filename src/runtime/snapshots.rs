//! Map-cache snapshots: when they are taken, and what becomes of one at start.
//!
//! The control thread only copies entries into a buffer, some at a time with pauses in between, so that a
//! large cache delays nothing; the checksum and the disk are other threads' work. Where the disk fails, the
//! last good snapshot stays, the log says so once, and the router goes on. Only where the operator cleared
//! something of it, it is removed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::clock::{Clock, moment};
use crate::config::{Config, SnapshotConfig};
use crate::mgmt::view;
use crate::proto::control::ControlPlane;
use crate::proto::redundancy::snapshot::{self, Saved, Taking, Valid};
use crate::proto::xtr::Restored;
use crate::store::{self, StoreError};
use crate::types::{EidPrefix, Instant};

/// Entries that are copied, or taken up, at a time …
const SLICE: usize = 1000;
/// … and the pause until the next ones.
const PAUSE: Duration = Duration::from_millis(5);
/// Entries that are taken up before packets are: those that were used last.
const FIRST: usize = 10_000;
/// How long the start of the router waits for the disk.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long its end does.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// After the operator cleared something, the disk is not to know it for longer than this.
const SOON: Duration = Duration::from_secs(1);

/// What the control loop has of snapshots.
#[derive(Debug)]
pub(super) struct Snapshots {
    clock: Clock,
    /// Missing where nothing is kept.
    dir: Option<PathBuf>,
    config: Option<SnapshotConfig>,
    identity: String,
    /// What is still to be taken up, the last first.
    waiting: Vec<Saved>,
    taking: Option<Taking>,
    writing: Option<JoinHandle<Result<usize, StoreError>>>,
    /// When something is to be done next.
    wake: Instant,
    /// The changes of the map-cache that the last snapshot knows of, and when it was taken.
    known: Option<(u64, Instant)>,
    /// The operator cleared something since the snapshot that is on the disk, or being written, was begun.
    cleared: bool,
    /// Something had been cleared when the one that is being written was begun.
    clearing: bool,
    last_written: Option<Instant>,
    started: Instant,
    restored: Restored,
    status: view::Snapshot,
}

impl Snapshots {
    /// Reads what an earlier life left in the state directory, if state `is_kept` there. What can't be used
    /// is set aside and never read again.
    pub(super) async fn open(config: &Config, clock: Clock, is_kept: bool) -> Self {
        let now = clock.now();
        let role = config.control.itr.is_some();
        let mut this = Self {
            dir: Some(config.router.state_dir.clone()).filter(|_| is_kept),
            config: config.snapshot.filter(|_| role),
            identity: identity(config),
            ..Self::none(clock)
        };
        if let (Some(dir), Some(told)) = (this.dir.clone(), this.config) {
            this.wake = now + told.interval;
            this.status.place = dir.join(store::SNAPSHOT_FILE).display().to_string();
            let identity = this.identity.clone();
            let reading = spawn_blocking(move || read(&dir, &identity, told.max_age));
            match timeout(READ_TIMEOUT, reading).await {
                Ok(Ok(Ok(None))) => {}
                Ok(Ok(Ok(Some(valid)))) => this.found(valid),
                Ok(Ok(Err(notice))) => {
                    tracing::warn!("{notice}");
                    this.status.notice = Some(notice);
                }
                Ok(Err(_)) | Err(_) => {
                    let notice = format!(
                        "{}: reading it did not end in {} s: the map-cache starts empty; check the disk",
                        this.status.place,
                        READ_TIMEOUT.as_secs()
                    );
                    tracing::warn!("{notice}");
                    this.status.notice = Some(notice);
                }
            }
        }
        this
    }

    fn found(&mut self, valid: Valid) {
        let Valid { mut entries, expired, age } = valid;
        tracing::info!(
            entries = entries.len(),
            expired,
            age_s = age.as_secs(),
            "map-cache snapshot read from {}",
            self.status.place
        );
        self.restored.expired = expired;
        entries.reverse();
        self.waiting = entries;
    }

    /// Takes up the entries that were used last, before there are packets.
    pub(super) fn take_up_first(&mut self, plane: &mut ControlPlane) {
        self.take_up(plane, FIRST);
    }

    fn take_up(&mut self, plane: &mut ControlPlane, most: usize) {
        if self.waiting.is_empty() {
            return;
        }
        let now = self.clock.now();
        let late = now.saturating_since(self.started);
        let from = self.waiting.len().saturating_sub(most);
        let mut part = self.waiting.split_off(from);
        part.reverse();
        for saved in &mut part {
            saved.left = saved.left.saturating_sub(late);
        }
        self.restored += plane.restore_map_cache(&part, now);
        if self.waiting.is_empty() {
            let r = self.restored;
            self.waiting = Vec::new();
            tracing::info!(
                "map-cache: {} entries taken up from the snapshot; not taken: {} expired, {} of instances \
                 that are not here, {} of own EID-prefixes, {} known already, {} without room",
                r.taken,
                r.expired,
                r.instance,
                r.own,
                r.known,
                r.full
            );
            let interval = self.config.map_or(PAUSE, |config| config.interval);
            self.wake = now + if self.cleared { interval.min(SOON) } else { interval };
        } else {
            self.wake = now + PAUSE;
        }
    }

    /// Until there is something to do.
    pub(super) async fn due(&mut self) {
        let wake = self.clock.to_tokio(self.wake);
        match &mut self.writing {
            Some(writing) => {
                let result = writing.await;
                self.writing = None;
                self.written(result.unwrap_or_else(|error| Err(self.broken(&error.to_string()))));
            }
            None => tokio::time::sleep_until(wake).await,
        }
    }

    /// Does it.
    pub(super) fn act(&mut self, plane: &mut ControlPlane) {
        let now = self.clock.now();
        if now < self.wake || self.writing.is_some() {
            return;
        }
        if !self.waiting.is_empty() {
            return self.take_up(plane, SLICE);
        }
        let (Some(dir), Some(config)) = (self.dir.clone(), self.config) else {
            self.wake = Instant::FAR_FUTURE;
            return;
        };
        let taking = match &mut self.taking {
            Some(taking) => taking,
            None => {
                let changes = plane.map_cache_changes();
                // Where nothing changed, a fresh date is still worth something before the snapshot is too
                // old.
                let known = self.known.is_some_and(|(known, at)| {
                    known == changes && now.saturating_since(at) < config.max_age / 4
                });
                if known {
                    self.wake = now + config.interval;
                    return;
                }
                self.known = Some((changes, now));
                self.taking.insert(Taking::begin(&self.identity, &moment(), now))
            }
        };
        if taking.step(plane, SLICE) {
            self.wake = now + PAUSE;
            return;
        }
        if let Some(taking) = self.taking.take() {
            self.write(dir, taking);
        }
        self.wake = now + config.interval;
    }

    fn write(&mut self, dir: PathBuf, taking: Taking) {
        self.status.entries = taking.len().into();
        self.clearing = std::mem::take(&mut self.cleared);
        let clearing = self.clearing;
        self.writing = Some(spawn_blocking(move || {
            let bytes = taking.seal();
            let written = store::write_snapshot(&dir, &bytes).map(|()| bytes.len());
            if clearing && written.is_err() {
                // What the operator cleared is in the old one still.
                if let Err(error) = store::remove_snapshot(&dir) {
                    tracing::warn!(
                        "{error}: what was cleared of the map-cache may come back; {}",
                        error.remedy()
                    );
                }
            }
            written
        }));
    }

    fn written(&mut self, result: Result<usize, StoreError>) {
        match result {
            Ok(bytes) => {
                if self.status.problem.take().is_some() {
                    tracing::info!("map-cache snapshots are written again to {}", self.status.place);
                }
                self.clearing = false;
                self.status.written += 1;
                self.status.bytes = bytes as u64;
                self.last_written = Some(self.clock.now());
            }
            Err(error) => {
                let problem = error.to_string();
                if self.status.problem.as_ref() != Some(&problem) {
                    let old = match self.clearing {
                        true => "The last one has entries that were cleared and is removed",
                        false => "The last good one stays",
                    };
                    tracing::warn!(
                        "no map-cache snapshot: {problem}; {}. {old}, and the router goes on",
                        error.remedy()
                    );
                }
                // Not undone as long as nothing newer is on the disk.
                self.cleared |= std::mem::take(&mut self.clearing);
                self.status.problem = Some(problem);
                self.status.failures += 1;
                self.known = None;
            }
        }
    }

    fn broken(&self, reason: &str) -> StoreError {
        StoreError::Database { path: self.status.place.clone().into(), reason: reason.to_owned() }
    }

    /// The operator cleared the entry of `prefix`, or all: that is not to come back by a crash, nor from what
    /// is still to be taken up.
    pub(super) fn soon(&mut self, prefix: Option<&EidPrefix>) {
        self.waiting.retain(|saved| prefix.is_some_and(|prefix| saved.mapping.eid != *prefix));
        self.cleared = true;
        self.taking = None;
        self.known = None;
        if self.dir.is_some() && self.config.is_some() {
            self.wake = self.wake.min(self.clock.now() + SOON);
        }
    }

    /// Takes another configuration in.
    pub(super) fn configure(&mut self, config: &Config) {
        let new = config.snapshot.filter(|_| config.control.itr.is_some());
        self.identity = identity(config);
        if new != self.config {
            self.config = new;
            self.wake = new.map_or(Instant::FAR_FUTURE, |new| self.clock.now() + new.interval);
        }
    }

    /// How it stands.
    pub(super) fn status(&self) -> Option<view::Snapshot> {
        (self.dir.is_some() && self.config.is_some()).then(|| view::Snapshot {
            restored: self.restored.taken as u64,
            expired: self.restored.expired as u64,
            unfit: (self.restored.instance + self.restored.own + self.restored.full) as u64,
            waiting: self.waiting.len() as u64,
            last: self.last_written.map(|at| self.clock.now().saturating_since(at).as_secs()),
            ..self.status.clone()
        })
    }

    /// The router stops: begins to write what the map-cache has now.
    pub(super) async fn last(&mut self, plane: &mut ControlPlane) {
        let (Some(dir), Some(_)) = (self.dir.clone(), self.config) else { return };
        if self.cleared {
            // What was cleared is in the old one still, so that it can't stay.
            self.take_up(plane, usize::MAX);
        }
        if !self.waiting.is_empty() {
            // The old one knows more than we have taken up.
            return;
        }
        if let Some(writing) = self.writing.take()
            && timeout(WRITE_TIMEOUT, writing).await.is_err()
        {
            return;
        }
        let mut taking = Taking::begin(&self.identity, &moment(), self.clock.now());
        while taking.step(plane, SLICE) {}
        self.write(dir, taking);
    }

    /// Waits until that is on the disk.
    pub(super) async fn close(mut self) {
        let Some(writing) = self.writing.take() else { return };
        match timeout(WRITE_TIMEOUT, writing).await {
            Ok(Ok(result)) => self.written(result),
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("the disk takes too long: the map-cache as it is now is not kept");
            }
        }
    }

    /// Nothing is kept, or known from before.
    fn none(clock: Clock) -> Self {
        Self {
            clock,
            dir: None,
            config: None,
            identity: String::new(),
            waiting: Vec::new(),
            taking: None,
            writing: None,
            wake: Instant::FAR_FUTURE,
            known: None,
            cleared: false,
            clearing: false,
            last_written: None,
            started: clock.now(),
            restored: Restored::default(),
            status: view::Snapshot::default(),
        }
    }
}

/// Who this router is to its own snapshots: what must not be mixed up where somebody copies a state
/// directory.
fn identity(config: &Config) -> String {
    let xtr = config.control.etr.as_ref().and_then(|etr| etr.xtr_site).map(|(xtr, _)| xtr);
    match (xtr.filter(|xtr| xtr.0 != [0; 16]), &config.router.name) {
        (Some(xtr), _) => xtr.to_string(),
        (None, Some(name)) => name.clone(),
        (None, None) => String::new(),
    }
}

/// Reads a snapshot; `Err` with what the log is to say.
fn read(dir: &Path, identity: &str, max_age: Duration) -> Result<Option<Valid>, String> {
    let path = dir.join(store::SNAPSHOT_FILE);
    let (reason, remedy) = match store::read_snapshot(dir) {
        Ok(None) => return Ok(None),
        Ok(Some(bytes)) => {
            let valid = snapshot::decode(&bytes).and_then(|read| read.valid(identity, &moment(), max_age));
            match valid {
                Ok(valid) => return Ok(Some(valid)),
                Err(error) => (error.to_string(), None),
            }
        }
        Err(error @ StoreError::Io { .. }) => (error.to_string(), Some(error.remedy())),
        Err(error) => (error.to_string(), None),
    };
    let place = path.display();
    if let Some(remedy) = remedy {
        return Err(format!("{reason}: the map-cache starts empty; {remedy}"));
    }
    Err(match store::set_snapshot_aside(dir) {
        Ok(aside) => format!(
            "{place} is not used: {reason}. It was set aside as {}, and the map-cache starts empty",
            aside.display()
        ),
        Err(error) => {
            format!(
                "{place} is not used: {reason}; nor can it be set aside: {error}. The map-cache starts empty"
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Action, Mapping, Ttl};

    fn prefix(text: &str) -> EidPrefix {
        EidPrefix::from(text.parse::<ipnet::IpNet>().unwrap())
    }

    fn snapshots(dir: &Path) -> Snapshots {
        let clock = Clock::new();
        let saved = |of: &str| Saved {
            mapping: Mapping::negative(prefix(of), Ttl(15), Action::NativelyForward),
            left: Duration::from_secs(900),
            idle: None,
            responder: None,
            echoes: false,
            down: Vec::new(),
        };
        Snapshots {
            dir: Some(dir.to_owned()),
            config: Some(SnapshotConfig::default()),
            identity: "x".into(),
            waiting: vec![saved("10.1.0.0/16"), saved("10.2.0.0/16"), saved("10.3.0.0/16")],
            ..Snapshots::none(clock)
        }
    }

    async fn write(snapshots: &mut Snapshots, dir: &Path) {
        let taking = Taking::begin("x", &moment(), snapshots.clock.now());
        snapshots.write(dir.to_owned(), taking);
        snapshots.due().await;
    }

    #[test]
    fn clearing_one_entry_leaves_the_others_to_be_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        let mut snapshots = snapshots(dir.path());
        snapshots.soon(Some(&prefix("10.2.0.0/16")));
        let left: Vec<_> = snapshots.waiting.iter().map(|saved| saved.mapping.eid).collect();
        assert_eq!(left, [prefix("10.1.0.0/16"), prefix("10.3.0.0/16")]);
        assert!(snapshots.wake < Instant::FAR_FUTURE, "the disk is told");
        snapshots.soon(None);
        assert!(snapshots.waiting.is_empty());
    }

    #[tokio::test]
    async fn where_the_disk_fails_the_old_one_stays_unless_something_of_it_was_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let mut snapshots = snapshots(dir);
        write(&mut snapshots, dir).await;
        let file = dir.join(store::SNAPSHOT_FILE);
        assert!(file.exists());
        // In the way of what is written first.
        let obstacle = dir.join(format!("{}.new", store::SNAPSHOT_FILE));
        std::fs::create_dir(&obstacle).unwrap();
        write(&mut snapshots, dir).await;
        assert!(file.exists() && snapshots.status.failures == 1);
        snapshots.soon(None);
        write(&mut snapshots, dir).await;
        assert!(!file.exists() && snapshots.status.failures == 2);
        assert!(snapshots.cleared, "until something newer is on the disk");
        std::fs::remove_dir(&obstacle).unwrap();
        write(&mut snapshots, dir).await;
        assert!(file.exists() && !snapshots.cleared);
    }
}
