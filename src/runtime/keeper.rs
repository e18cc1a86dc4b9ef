//! The thread that writes down what must survive a restart, so that the control loop never waits for a disk.
//!
//! Changes wait in a table by key, so that a later one replaces an earlier one that was not written yet: what
//! waits is bounded by what there is to remember. They are written together after a moment, or at once where
//! somebody waits. Where the disk fails, changes keep waiting, whoever waits for them is told that it is of
//! no use, and the router goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::clock::wall_clock;
use crate::mgmt::view;
use crate::proto::persist::{Change, Key, Record};
use crate::store::{Embedded, Opened, Store, StoreError};

/// How long changes wait for others, so that one write serves many. A power cut loses at most as much.
const LINGER: Duration = Duration::from_millis(200);
/// After an error, the next try comes after this time.
const RETRY: Duration = Duration::from_secs(5);
/// How long the start of the router waits for the disk.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long its end does.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// What the control loop has of the store.
#[derive(Debug)]
pub(super) struct Keeper {
    /// The thread and what is shared with it; missing where there is no store.
    thread: Option<(Arc<Shared>, JoinHandle<()>)>,
    written: mpsc::UnboundedReceiver<Record>,
    /// What `show` says where there is no store.
    status: view::Store,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    linger: Duration,
    retry: Duration,
}

#[derive(Debug, Default)]
struct Queue {
    changes: BTreeMap<Key, Change>,
    urgent: bool,
    closing: bool,
    status: view::Store,
}

impl Keeper {
    /// Opens the store in the directory `dir`, and returns the records that were in it: `None` where there is
    /// no store, which is said in the log with what to do about it.
    pub(super) async fn open(dir: &Path) -> (Self, Option<Vec<Record>>) {
        let place = dir.to_owned();
        let opening = spawn_blocking(move || Embedded::open(&place, wall_clock().as_secs()));
        let status = view::Store { place: dir.display().to_string(), ..view::Store::default() };
        match timeout(OPEN_TIMEOUT, opening).await {
            Ok(Ok(Ok(opened))) => Self::opened(opened, status),
            Ok(Ok(Err(error))) => (Self::without(status, &error.to_string(), error.remedy()), None),
            Ok(Err(_)) | Err(_) => {
                let problem = format!("{} did not answer in {} s", dir.display(), OPEN_TIMEOUT.as_secs());
                (Self::without(status, &problem, "check the disk"), None)
            }
        }
    }

    fn opened(opened: Opened<Embedded>, status: view::Store) -> (Self, Option<Vec<Record>>) {
        let Opened { store, records, lost } = opened;
        let mut status = view::Store {
            place: store.path().display().to_string(),
            state: view::StoreState::Working,
            restored: records.len() as u64,
            ..status
        };
        if let Some(lost) = lost {
            let place = store.path().display();
            let notice = match &lost.set_aside {
                Some(aside) => format!(
                    "{place} can't be used: {}. It was set aside as {}, and the router starts without its \
                     earlier state: registrations that were recorded could be replayed once, and if the \
                     clock went back, Map-Servers may refuse this router's registrations until a new key-id \
                     is used",
                    lost.reason,
                    aside.display()
                ),
                None => format!("{place}: {}", lost.reason),
            };
            tracing::warn!("{notice}");
            status.notice = Some(notice);
        }
        tracing::info!(records = records.len(), "state is kept in {}", store.path().display());
        (Self::start(Box::new(store), status, LINGER, RETRY), Some(records))
    }

    /// Keeps nothing.
    fn without(status: view::Store, problem: &str, remedy: &str) -> Self {
        tracing::warn!(
            "state is not kept: {problem}; {remedy}, then restart. Until then nonces depend on the clock \
             alone, and a Map-Server forgets the nonces of its sites when it restarts"
        );
        let (_, written) = mpsc::unbounded_channel();
        let status = view::Store { problem: Some(problem.to_owned()), ..status };
        Self { thread: None, written, status }
    }

    fn start(store: Box<dyn Store>, status: view::Store, linger: Duration, retry: Duration) -> Self {
        let queue = Queue { status: status.clone(), ..Queue::default() };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), changed: Condvar::new(), linger, retry });
        let (tell, written) = mpsc::unbounded_channel();
        let for_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("store".into())
            .spawn(move || for_thread.write_all(store, &tell))
            .inspect_err(|error| tracing::warn!("state is not kept: no thread for it: {error}"));
        Self { thread: thread.ok().map(|thread| (shared, thread)), written, status }
    }

    /// Has a change written, soon.
    pub(super) fn keep(&self, change: Change) {
        let Some((shared, _)) = &self.thread else { return };
        let mut queue = shared.lock();
        let (was_empty, was_urgent) = (queue.changes.is_empty(), queue.urgent);
        queue.urgent |= change.awaited().is_some();
        queue.changes.insert(change.key(), change);
        if was_empty || queue.urgent != was_urgent {
            shared.changed.notify_one();
        }
    }

    /// The next record that somebody waited for: it is on the disk, or can't be.
    pub(super) async fn written(&mut self) -> Record {
        match self.written.recv().await {
            Some(record) => record,
            None => std::future::pending().await,
        }
    }

    /// How it stands.
    pub(super) fn status(&self) -> view::Store {
        match &self.thread {
            Some((shared, _)) => {
                let queue = shared.lock();
                view::Store { waiting: queue.changes.len() as u64, ..queue.status.clone() }
            }
            None => self.status.clone(),
        }
    }

    /// Writes what still waits.
    pub(super) async fn close(self) {
        let Some((shared, thread)) = self.thread else { return };
        shared.lock().closing = true;
        shared.changed.notify_one();
        if timeout(CLOSE_TIMEOUT, spawn_blocking(move || drop(thread.join()))).await.is_err() {
            tracing::warn!("the disk takes too long: the last changes of state may be lost");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's work.
    fn write_all(&self, mut store: Box<dyn Store>, tell: &mpsc::UnboundedSender<Record>) {
        while let Some(changes) = self.next_batch() {
            let result = store.commit(&changes);
            let mut queue = self.lock();
            match &result {
                Ok(()) => {
                    if queue.status.state == view::StoreState::Failing {
                        tracing::info!("state is kept again in {}", queue.status.place);
                    }
                    queue.status.state = view::StoreState::Working;
                    queue.status.problem = None;
                    queue.status.commits += 1;
                    queue.status.written += changes.len() as u64;
                }
                Err(error) => {
                    queue.failed(error);
                    for change in &changes {
                        // What came meanwhile is newer.
                        queue.changes.entry(change.key()).or_insert_with(|| change.clone());
                    }
                }
            }
            let closing = queue.closing;
            drop(queue);
            for record in changes.iter().filter_map(Change::awaited) {
                // Fails only when the router is stopping.
                let _ = tell.send(record.clone());
            }
            if result.is_err() {
                if closing {
                    return;
                }
                self.rest();
            }
        }
    }

    /// Waits for changes and takes them; `None` at the end.
    fn next_batch(&self) -> Option<Vec<Change>> {
        let mut queue = self.lock();
        while queue.changes.is_empty() {
            if queue.closing {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let (mut queue, _) = self
            .changed
            .wait_timeout_while(queue, self.linger, |queue| !queue.urgent && !queue.closing)
            .unwrap_or_else(PoisonError::into_inner);
        queue.urgent = false;
        Some(std::mem::take(&mut queue.changes).into_values().collect())
    }

    /// After an error: nothing is tried for a while. Who waits is told at once that it is of no use.
    fn rest(&self) {
        let queue = self.lock();
        let woken =
            self.changed.wait_timeout_while(queue, self.retry, |queue| !queue.urgent && !queue.closing);
        drop(woken.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Queue {
    fn failed(&mut self, error: &StoreError) {
        let problem = error.to_string();
        if self.status.problem.as_ref() != Some(&problem) {
            tracing::error!(
                "state can't be kept: {problem}; {}. The router goes on; until that is done, a restart may \
                 repeat nonces if the clock goes back, and forgets those of a Map-Server's sites",
                error.remedy()
            );
        }
        self.status.state = view::StoreState::Failing;
        self.status.problem = Some(problem);
        self.status.failures += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A store in memory that fails when it is told to.
    #[derive(Clone, Debug, Default)]
    struct Fake {
        full: Arc<AtomicBool>,
        commits: Arc<Mutex<Vec<Vec<Change>>>>,
    }

    impl Store for Fake {
        fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
            if self.full.load(Ordering::SeqCst) {
                let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
                return Err(StoreError::Io { path: "/state".into(), error });
            }
            self.commits.lock().unwrap().push(changes.to_vec());
            Ok(())
        }
    }

    fn keeper(store: &Fake, linger: Duration) -> Keeper {
        Keeper::start(Box::new(store.clone()), view::Store::default(), linger, Duration::from_millis(20))
    }

    fn reserve(below: u64) -> Change {
        Change::Put(Record::RegisterNonce { below })
    }

    fn other(slot: u16) -> Change {
        Change::Put(Record::RecentRegister { site: "a".into(), slot, serial: 1, digest: [0; 12] })
    }

    #[tokio::test]
    async fn changes_are_joined_and_awaited_ones_are_written_at_once() {
        let store = Fake::default();
        let mut keeper = keeper(&store, Duration::from_secs(3600));
        keeper.keep(other(1));
        keeper.keep(other(2));
        keeper.keep(Change::Remove(other(1).key()));
        keeper.keep(reserve(7));
        assert_eq!(keeper.written().await, Record::RegisterNonce { below: 7 });
        keeper.keep(other(3));
        keeper.close().await;
        let commits = store.commits.lock().unwrap().clone();
        let expected = [vec![reserve(7), Change::Remove(other(1).key()), other(2)], vec![other(3)]];
        assert_eq!(commits, expected, "one write for what came together, and one at the end");
    }

    #[tokio::test]
    async fn a_full_disk_stops_nobody_and_is_written_to_once_there_is_room() {
        let store = Fake::default();
        store.full.store(true, Ordering::SeqCst);
        let mut keeper = keeper(&store, Duration::ZERO);
        keeper.keep(other(1));
        keeper.keep(reserve(7));
        assert_eq!(
            keeper.written().await,
            Record::RegisterNonce { below: 7 },
            "told that waiting is of no use"
        );
        let status = keeper.status();
        assert_eq!(status.state, view::StoreState::Failing);
        assert!(status.problem.is_some() && status.failures > 0, "{status:?}");
        store.full.store(false, Ordering::SeqCst);
        for _ in 0..500 {
            if keeper.status().state == view::StoreState::Working {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let status = keeper.status();
        assert_eq!((status.state, status.waiting, status.problem), (view::StoreState::Working, 0, None));
        let written: Vec<Change> = store.commits.lock().unwrap().concat();
        assert!(written.contains(&other(1)) && written.contains(&reserve(7)), "{written:?}");
        keeper.close().await;
    }
}
