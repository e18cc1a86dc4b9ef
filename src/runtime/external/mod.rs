//! A data plane that is another program: the same control plane, told to it over a socket instead of to our
//! own threads.
//!
//! Owns: the socket, its clients and what they are told (`table`). [`protocol`] says how, for whoever writes
//! such a data plane; `scripts/external-dataplane` is a small one. Takes no protocol decisions, and never
//! makes the control loop wait.

pub mod protocol;
mod table;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::RunError;
use super::clock::Clock;
use crate::config::{Config, ExternalConfig};
use crate::fib::{FibUpdate, Punt, Sender};
use crate::mgmt::socket::Socket;
use crate::mgmt::view;
use crate::types::{Eid, EidPrefix, Instant, Rloc};
use protocol::{FromDataPlane, LONGEST_LINE, MOST_CLIENTS, ToDataPlane, VERSION};
use table::{Table, is_host};

/// See [`Server::patience`].
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a batch, beyond which no further line is added.
const BATCH: usize = 64 << 10;
/// Answers that may wait for a client to read; until then it is not read from.
const ANSWERS: usize = 64;

/// The control loop's end.
#[derive(Debug)]
pub(super) struct External {
    /// What the data planes hand over.
    pub(super) punts: mpsc::Receiver<Punt>,
    shared: Shared,
    socket: String,
}

/// What the loop and the clients share. All of them run on the control thread: the lock is never waited for.
#[derive(Clone, Debug)]
struct Shared {
    table: Arc<Mutex<Table>>,
    clock: Clock,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl External {
    /// Makes the socket and serves it.
    pub(super) fn start(config: &Config, clock: Clock) -> Result<Self, RunError> {
        let ExternalConfig { socket: path, mode, user } = &config.data_plane.external;
        let socket =
            Socket::bind(path, *mode, "[data-plane.external] socket").map_err(RunError::from_display)?;
        if let Some(user) = user {
            // Whoever may connect must be able to, whatever the permissions leave to others.
            std::os::unix::fs::chown(path, Some(*user), None).map_err(|error| {
                let path = path.display();
                RunError(format!(
                    "can't give {path} to user {user}: {error}; run as root, or leave out `user-id`"
                ))
            })?;
        }
        let shared = Shared { table: Arc::default(), clock };
        let (punts_to, punts) = mpsc::channel(config.data_plane.punt_queue as usize);
        let server = Server {
            patience: PATIENCE,
            allowed: [Some(0), Some(socket.owner()), *user],
            socket,
            router: config.router.name.clone().unwrap_or_else(|| "eidolon".into()),
            shared: shared.clone(),
        };
        tokio::spawn(server.serve(punts_to));
        tracing::info!(socket = %path.display(), "waiting for an external data plane");
        Ok(Self { punts, shared, socket: path.display().to_string() })
    }

    /// Passes a change on.
    pub(super) fn apply(&self, update: FibUpdate) {
        self.shared.lock().apply(update);
    }

    /// The path MTU to a locator, if a limit is known.
    pub(super) fn path_mtu(&self, rloc: &Rloc) -> Option<u16> {
        self.shared.lock().path_mtu(rloc)
    }

    /// Who sent to the site since `since`, as the data planes said.
    pub(super) fn senders(&self, since: Instant) -> Vec<Sender> {
        self.shared.lock().senders(since)
    }

    /// For `show interfaces`.
    pub(super) fn view(&self) -> view::ExternalDataPlane {
        self.shared.lock().view(self.socket.clone(), self.shared.clock.now())
    }
}

struct Server {
    socket: Socket,
    /// Users that may connect.
    allowed: [Option<u32>; 3],
    router: String,
    /// How long a client may take to take a batch.
    patience: Duration,
    shared: Shared,
}

impl Server {
    /// Serves clients until `punts` is closed.
    async fn serve(self, punts: mpsc::Sender<Punt>) {
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                Some(_) = clients.join_next(), if !clients.is_empty() => continue,
                () = punts.closed() => return,
            };
            match accepted {
                Ok(stream) => {
                    if let Some(client) = self.admit(&stream) {
                        let hello = ToDataPlane::Hello { version: VERSION, router: self.router.clone() };
                        clients.spawn(client.serve(stream, hello, punts.clone()));
                    }
                }
                Err(error) => {
                    tracing::warn!("data plane socket: {error}");
                    // Out of file descriptors, most likely: gives others time to close theirs.
                    sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Lets a client in, or tells it why not.
    fn admit(&self, stream: &UnixStream) -> Option<Client> {
        let refuse = |message: String| {
            tracing::warn!("data plane socket: {message}");
            let _ = stream.try_write(&line(&ToDataPlane::Error { message }));
        };
        let credentials = match stream.peer_cred() {
            Ok(credentials) => credentials,
            Err(error) => {
                refuse(format!("a client whose user is not known: {error}"));
                return None;
            }
        };
        let (uid, pid) = (credentials.uid(), credentials.pid());
        if !self.allowed.contains(&Some(uid)) {
            refuse(format!(
                "user {uid} may not be the data plane: set `user-id = {uid}` in [data-plane.external] if it \
                 may"
            ));
            return None;
        }
        let Some((number, wake)) = self.shared.lock().enter(uid, pid, self.shared.clock.now()) else {
            refuse(format!("there are {MOST_CLIENTS} data planes already"));
            return None;
        };
        tracing::info!(uid, pid, "data plane connected");
        Some(Client { number, wake, patience: self.patience, shared: self.shared.clone() })
    }
}

/// A client's place in the table, which it leaves when this is dropped.
struct Client {
    number: u8,
    wake: Arc<Notify>,
    patience: Duration,
    shared: Shared,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.lock().leave(self.number);
    }
}

impl Client {
    async fn serve(self, stream: UnixStream, hello: ToDataPlane, punts: mpsc::Sender<Punt>) {
        let (read, write) = stream.into_split();
        let (answers_to, answers) = mpsc::channel(ANSWERS);
        let why = tokio::select! {
            why = self.read(read, answers_to, punts) => why,
            why = self.write(write, answers, hello) => why,
        };
        tracing::info!("data plane disconnected: {why}");
    }

    /// Tells the data plane what it is owed. Ends with why.
    async fn write(
        &self,
        mut write: OwnedWriteHalf,
        mut answers: mpsc::Receiver<ToDataPlane>,
        hello: ToDataPlane,
    ) -> String {
        let mut batch = line(&hello);
        loop {
            while batch.len() < BATCH {
                let answer = answers.try_recv().ok();
                let Some(message) = answer.or_else(|| self.shared.lock().next(self.number)) else { break };
                batch.extend(line(&message));
            }
            if batch.is_empty() {
                tokio::select! {
                    () = self.wake.notified() => {}
                    Some(answer) = answers.recv() => batch.extend(line(&answer)),
                }
                continue;
            }
            match timeout(self.patience, write.write_all(&batch)).await {
                Ok(Ok(())) => batch.clear(),
                Ok(Err(error)) => return error.to_string(),
                Err(_) => return format!("it did not read for {:?}", self.patience),
            }
        }
    }

    /// Takes in what the data plane says. Ends with why.
    async fn read(
        &self,
        read: OwnedReadHalf,
        answers: mpsc::Sender<ToDataPlane>,
        punts: mpsc::Sender<Punt>,
    ) -> String {
        let mut read = BufReader::new(read);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            let mut limited = (&mut read).take(LONGEST_LINE as u64);
            match limited.read_until(b'\n', &mut bytes).await {
                Ok(0) => return "it closed the connection".into(),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
            if bytes.last() != Some(&b'\n') {
                return match bytes.len() {
                    LONGEST_LINE => format!("its line is longer than {LONGEST_LINE} bytes"),
                    _ => "it closed the connection within a line".into(),
                };
            }
            let answer = match FromDataPlane::read(&bytes) {
                Ok(message) => self.take(message, &punts),
                Err(message) => {
                    tracing::debug!("data plane: {message}");
                    if let Some(client) = self.shared.lock().client(self.number) {
                        client.errors += 1;
                    }
                    Some(ToDataPlane::Error { message })
                }
            };
            // Waits where there are too many that the data plane has not read.
            if let Some(answer) = answer
                && answers.send(answer).await.is_err()
            {
                return "the router is stopping".into();
            }
        }
    }

    /// Does what a message asks for; the answer, where there is one.
    fn take(&self, message: FromDataPlane, punts: &mpsc::Sender<Punt>) -> Option<ToDataPlane> {
        let mut table = self.shared.lock();
        if let Some(client) = table.client(self.number) {
            client.received += 1;
        }
        let punt = match message {
            FromDataPlane::Miss { instance_id, source, eid } => {
                if !is_host(&eid) || !is_host(&source) || eid.is_ipv4() != source.is_ipv4() {
                    let message = format!("no packet can be from {source} to {eid}");
                    return Some(ToDataPlane::Error { message });
                }
                Punt::Miss { source, destination: Eid::new(instance_id, eid) }
            }
            FromDataPlane::Unreachable { rloc } => Punt::Unreachable { rloc },
            FromDataPlane::PathMtu { rloc, mtu } => Punt::PathMtu { rloc, mtu },
            FromDataPlane::Get { id, instance_id, eid } => {
                return Some(ToDataPlane::Entry { id, entry: table.longest(&Eid::new(instance_id, eid)) });
            }
            FromDataPlane::Heard { instance_id, rloc, eid } => {
                if !is_host(&rloc) || !is_host(&eid) {
                    let message = format!("no packet can be from {rloc} for {eid}");
                    return Some(ToDataPlane::Error { message });
                }
                table.heard(self.number, rloc, Eid::new(instance_id, eid), self.shared.clock.now());
                return None;
            }
            FromDataPlane::Used { instance_id, eid_prefix, packets, bytes, paths } => {
                let prefix = EidPrefix::new(instance_id, eid_prefix);
                // It may have gone just now.
                table.used(&prefix, packets, bytes, &paths, self.shared.clock.now());
                return None;
            }
        };
        if punts.try_send(punt).is_err()
            && let Some(client) = table.client(self.number)
        {
            client.punts_lost += 1;
        }
        None
    }
}

/// A message as it is sent.
fn line(message: &ToDataPlane) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, Read as _, Write as _};
    use std::os::unix::net::UnixStream as StdStream;
    use std::path::{Path, PathBuf};
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use ipnet::IpNet;
    use tokio::runtime::Builder;

    use super::*;
    use crate::fib::FibAction;
    use crate::types::InstanceId;

    /// A server, and the loop's end of it.
    fn serve(path: &Path, patience: Duration, strict: bool) -> External {
        let socket = Socket::bind(path, 0o600, "x").unwrap();
        let shared = Shared { table: Arc::default(), clock: Clock::new() };
        let (punts_to, punts) = mpsc::channel(4);
        let allowed = [Some(socket.owner()).filter(|_| !strict), None, None];
        let server = Server { socket, allowed, router: "test".into(), patience, shared: shared.clone() };
        tokio::spawn(server.serve(punts_to));
        External { punts, shared, socket: path.display().to_string() }
    }

    fn set(n: u32) -> FibUpdate {
        let net = IpNet::new(std::net::Ipv4Addr::from_bits(n << 8).into(), 24).unwrap();
        FibUpdate::Set { prefix: net.into(), action: FibAction::Local, stats: Arc::default() }
    }

    /// Runs a client in a thread of its own while the server is served.
    fn with<T: Send + 'static>(
        patience: Duration,
        entries: u32,
        client: impl FnOnce(PathBuf) -> T + Send + 'static,
        mut check: impl FnMut(&mut External),
    ) -> T {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data-plane.sock");
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let mut external = serve(&path, patience, false);
            (1..=entries).for_each(|n| external.apply(set(n)));
            let mut client = tokio::task::spawn_blocking(move || client(path));
            loop {
                tokio::select! {
                    result = &mut client => {
                        check(&mut external);
                        return result.unwrap();
                    }
                    () = sleep(Duration::from_millis(10)) => check(&mut external),
                }
            }
        })
    }

    /// Waits for what the server's loop has seen, at most half a minute.
    fn wait_for(condition: impl Fn() -> bool) {
        let waited = (0..3000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            condition()
        });
        assert!(waited, "in vain");
    }

    fn lines(stream: &StdStream) -> impl Iterator<Item = ToDataPlane> + use<> {
        let lines = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap())
    }

    #[test]
    fn a_client_is_told_asked_and_answered() {
        let mut punts = Vec::new();
        let client = |path| {
            let mut stream = StdStream::connect(path).unwrap();
            let mut lines = lines(&stream);
            assert_eq!(lines.next(), Some(ToDataPlane::Hello { version: VERSION, router: "test".into() }));
            assert!(lines.by_ref().take(3).all(|line| matches!(line, ToDataPlane::Add(_))));
            assert_eq!(lines.next(), Some(ToDataPlane::Synced { entries: 3 }));
            let say = [
                r#"{"type":"get","id":7,"eid":"0.0.2.9"}"#,
                "nonsense",
                r#"{"type":"miss","source":"10.1.0.5","eid":"224.0.0.1"}"#,
                r#"{"type":"miss","source":"10.1.0.5","eid":"10.2.0.9","instance-id":7}"#,
                r#"{"type":"unreachable","rloc":"203.0.113.1"}"#,
                r#"{"type":"get","id":8,"eid":"10.2.0.9"}"#,
            ];
            stream.write_all((say.join("\n") + "\n").as_bytes()).unwrap();
            let Some(ToDataPlane::Entry { id: 7, entry: Some(entry) }) = lines.next() else { panic!() };
            assert_eq!(entry.eid_prefix, "0.0.2.0/24".parse::<IpNet>().unwrap());
            assert!(matches!(lines.next(), Some(ToDataPlane::Error { .. })));
            assert!(matches!(lines.next(), Some(ToDataPlane::Error { .. })));
            assert_eq!(lines.next(), Some(ToDataPlane::Entry { id: 8, entry: None }));
            // A line without end ends the connection.
            stream.write_all(&vec![b'x'; LONGEST_LINE]).unwrap();
            let mut rest = String::new();
            let _ = stream.read_to_string(&mut rest);
        };
        with(PATIENCE, 3, client, |external| {
            punts.extend(std::iter::from_fn(|| external.punts.try_recv().ok()));
        });
        let destination = Eid::new(InstanceId::new(7).unwrap(), "10.2.0.9".parse().unwrap());
        let miss = Punt::Miss { source: "10.1.0.5".parse().unwrap(), destination };
        assert_eq!(punts, [miss, Punt::Unreachable { rloc: "203.0.113.1".parse().unwrap() }]);
    }

    #[test]
    fn who_does_not_read_is_disconnected_and_holds_nobody_up() {
        // The most clients, and those of now.
        let clients = Arc::<[AtomicUsize; 2]>::default();
        let seen = Arc::clone(&clients);
        let client = move |path: PathBuf| {
            let lazy = StdStream::connect(&path).unwrap();
            let keen = StdStream::connect(&path).unwrap();
            let synced = lines(&keen).find(|line| matches!(line, ToDataPlane::Synced { .. }));
            assert_eq!(synced, Some(ToDataPlane::Synced { entries: 50_000 }));
            // The keen one stays, until the lazy one is gone.
            wait_for(|| [0, 1].map(|i| seen[i].load(Ordering::SeqCst)) == [2, 1]);
            // What was in the socket's buffer can be read, then there is an end.
            let all = std::io::BufReader::new(lazy).lines().count();
            assert!(all < 50_000, "{all}");
        };
        with(Duration::from_millis(500), 50_000, client, |external| {
            let connected = external.view().clients.len();
            clients[0].fetch_max(connected, Ordering::SeqCst);
            clients[1].store(connected, Ordering::SeqCst);
            external.apply(set(1));
        });
    }

    #[test]
    fn users_that_may_not_be_the_data_plane_are_told_so_whatever_the_permissions() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data-plane.sock");
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let external = serve(&path, PATIENCE, true);
            let stranger = tokio::task::spawn_blocking(move || {
                lines(&StdStream::connect(path).unwrap()).collect::<Vec<_>>()
            });
            let [ToDataPlane::Error { message }] = &stranger.await.unwrap()[..] else { panic!("one line") };
            assert!(message.contains("may not be the data plane: set `user-id = "), "{message}");
            assert!(external.view().clients.is_empty());
        });
    }

    #[test]
    fn misses_beyond_the_queue_are_counted_and_lost() {
        let lost = Arc::<AtomicU64>::default();
        let seen = Arc::clone(&lost);
        let client = move |path| {
            let mut stream = StdStream::connect(path).unwrap();
            for _ in 0..20 {
                writeln!(stream, r#"{{"type":"miss","source":"10.1.0.5","eid":"10.2.0.9"}}"#).unwrap();
            }
            writeln!(stream, r#"{{"type":"get","id":1,"eid":"10.2.0.9"}}"#).unwrap();
            lines(&stream).find(|line| matches!(line, ToDataPlane::Entry { .. })).unwrap();
            wait_for(|| seen.load(Ordering::SeqCst) > 0);
        };
        with(PATIENCE, 1, client, |external| {
            lost.fetch_max(external.view().clients.iter().map(|c| c.punts_lost).sum(), Ordering::SeqCst);
        });
        assert_eq!(lost.load(Ordering::SeqCst), 16, "4 fit the queue");
    }
}
