//! The answering end of the control socket: takes requests to whoever knows the answers, and protects them
//! from clients that are many, slow or wrong.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::protocol::{LONGEST_REQUEST, Reply, Request, VERSION, Versioned};
pub use super::socket::BindError;
use super::socket::Socket;

/// Clients that are served at once; further ones are told to come back.
const MOST_CLIENTS: usize = 16;
/// How long a client may take to say something, or to take what it was told (per 64 KiB).
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a request may take to be answered. A lig that nobody answers gives up before.
const LONGEST_ANSWER: Duration = Duration::from_secs(60);
/// Bytes of a reply that a client must take within [`PATIENCE`].
const PIECE: usize = 64 << 10;

/// A request, and where its answer goes.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub request: Request,
    /// Takes the answer. Dropping it tells the client that there is none.
    pub answer: oneshot::Sender<Reply>,
}

/// The control socket. It is removed when this is dropped.
#[derive(Debug)]
pub struct Server {
    socket: Socket,
}

impl Server {
    /// Makes the socket at `path`, as [`Socket::bind`] does.
    ///
    /// # Errors
    /// If there is no making it; nothing is changed then.
    pub fn bind(path: &Path, mode: u32) -> Result<Self, BindError> {
        Socket::bind(path, mode, "[management] socket").map(|socket| Self { socket })
    }

    /// Serves clients until `calls` is closed. Dropping the future drops the clients.
    pub async fn serve(self, calls: mpsc::Sender<Call>) {
        let mut clients = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                Some(_) = clients.join_next(), if !clients.is_empty() => continue,
                () = calls.closed() => return,
            };
            match accepted {
                Ok(stream) if clients.len() < MOST_CLIENTS => {
                    clients.spawn(client(stream, calls.clone()));
                }
                Ok(stream) => {
                    tracing::warn!("control socket: more than {MOST_CLIENTS} clients, one was sent away");
                    refuse(&stream, "the router has too many clients: try again");
                }
                Err(error) => {
                    tracing::warn!("control socket: {error}");
                    // Out of file descriptors, most likely: gives others time to close theirs.
                    sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

/// Tells a client that is not served why, as far as that works without waiting.
fn refuse(stream: &UnixStream, why: &str) {
    let mut line = serde_json::to_vec(&Versioned::new(Reply::Error(why.into()))).unwrap_or_default();
    line.push(b'\n');
    let _ = stream.try_write(&line);
}

/// Serves one client to its end.
async fn client(stream: UnixStream, calls: mpsc::Sender<Call>) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut limited = (&mut read).take(LONGEST_REQUEST as u64 + 1);
        match timeout(PATIENCE, limited.read_until(b'\n', &mut line)).await {
            Ok(Ok(n)) if n > 0 => {}
            _ => return,
        }
        let complete = line.last() == Some(&b'\n');
        let reply = match complete {
            true => answer(&line, &calls).await,
            false if line.len() > LONGEST_REQUEST => {
                Reply::Error(format!("a request is at most {LONGEST_REQUEST} bytes long"))
            }
            false => return,
        };
        if send(&mut write, reply).await.is_none() || !complete {
            return;
        }
    }
}

/// The answer to one line.
async fn answer(line: &[u8], calls: &mpsc::Sender<Call>) -> Reply {
    let request = match understand(line) {
        Ok(request) => request,
        Err(why) => return Reply::Error(why),
    };
    let (sender, receiver) = oneshot::channel();
    let ask = async {
        calls.send(Call { request, answer: sender }).await.ok()?;
        receiver.await.ok()
    };
    match timeout(LONGEST_ANSWER, ask).await {
        Ok(Some(reply)) => reply,
        Ok(None) => Reply::Error("the router is stopping".into()),
        Err(_) => Reply::Error("the router took too long to answer".into()),
    }
}

fn understand(line: &[u8]) -> Result<Request, String> {
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let version: Version = serde_json::from_slice(line).map_err(|e| format!("not a request: {e}"))?;
    if version.version != VERSION {
        return Err(format!("this router speaks version {VERSION} of the protocol, not {}", version.version));
    }
    let request: Versioned<Request> =
        serde_json::from_slice(line).map_err(|e| format!("not a request that this router knows: {e}"))?;
    Ok(request.body)
}

/// Sends a reply; `None` if the client doesn't take it.
async fn send(write: &mut (impl tokio::io::AsyncWrite + Unpin), reply: Reply) -> Option<()> {
    let mut line = serde_json::to_vec(&Versioned::new(reply)).ok()?;
    line.push(b'\n');
    for piece in line.chunks(PIECE) {
        timeout(PATIENCE, write.write_all(piece)).await.ok()?.ok()?;
    }
    timeout(PATIENCE, write.flush()).await.ok()?.ok()
}
