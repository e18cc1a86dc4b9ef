//! Client and server against each other, over real sockets in a temporary directory.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::mpsc;

use super::client::{ClientError, ask};
use super::protocol::{LONGEST_REQUEST, Reply, Request, Versioned};
use super::server::{BindError, Call, Server};
use super::view::{Filter, MapCache};
use crate::types::{Eid, EidPrefix, InstanceId};

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` in a thread while a server at the given path answers with `reply`.
fn with_server<T: Send + 'static>(
    path: &Path,
    mut reply: impl FnMut(Request) -> Option<Reply>,
    test: impl FnOnce() -> T + Send + 'static,
) -> T {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::bind(path, 0o600).unwrap();
        let (sender, mut calls) = mpsc::channel::<Call>(4);
        let mut test = tokio::task::spawn_blocking(test);
        let mut serving = tokio::spawn(server.serve(sender));
        loop {
            tokio::select! {
                result = &mut test => {
                    drop(calls);
                    (&mut serving).await.unwrap();
                    return result.unwrap();
                }
                Some(call) = calls.recv() => {
                    if let Some(reply) = reply(call.request) {
                        call.answer.send(reply).ok();
                    }
                }
            }
        }
    })
}

fn directory() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/er/control.sock");
    (directory, path)
}

fn say(stream: &mut UnixStream, line: &[u8]) -> String {
    stream.write_all(line).unwrap();
    let mut reply = String::new();
    BufReader::new(stream).read_line(&mut reply).unwrap();
    reply
}

#[test]
fn requests_are_answered_and_the_socket_is_removed_at_the_end() {
    let (_directory, path) = directory();
    let client = path.clone();
    let reply = |request| match request {
        Request::ClearMapCache { prefix: None } => Some(Reply::Cleared(3)),
        Request::ShowMapCache { filter } => {
            assert_eq!(filter, Filter::ALL);
            Some(Reply::MapCache(MapCache { limit: 9, total: 0, entries: Vec::new() }))
        }
        Request::Reload => Some(Reply::Error("the file is gone".into())),
        _ => None,
    };
    with_server(&path, reply, move || {
        assert_eq!(client.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let ask = |request| ask(&client, &request, PATIENCE);
        assert_eq!(ask(Request::ClearMapCache { prefix: None }).unwrap(), Reply::Cleared(3));
        let empty = MapCache { limit: 9, total: 0, entries: Vec::new() };
        assert_eq!(ask(Request::ShowMapCache { filter: Filter::ALL }).unwrap(), Reply::MapCache(empty));
        assert_eq!(ask(Request::Reload).unwrap_err().to_string(), "the file is gone");
        assert_eq!(ask(Request::ShowPending).unwrap_err().to_string(), "the router is stopping");
        assert!(matches!(Server::bind(&client, 0o600), Err(BindError::InUse(..))));
    });
    assert!(!path.exists());
}

#[test]
fn a_client_may_ask_again_and_wrong_lines_are_answered() {
    let (_directory, path) = directory();
    let client = path.clone();
    with_server(
        &path,
        |_| Some(Reply::Cleared(1)),
        move || {
            let mut stream = UnixStream::connect(&client).unwrap();
            let good = "{\"version\":1,\"reply\":\"cleared\",\"data\":1}\n";
            let request =
                b"{\"version\":1,\"request\":\"clear-map-cache\",\"prefix\":null,\"from-the-future\":[]}\n";
            assert_eq!(say(&mut stream, request), good);
            assert!(say(&mut stream, b"\xff\n").contains("not a request"));
            let old = say(&mut stream, b"{\"version\":2,\"request\":\"reload\"}\n");
            assert!(old.contains("speaks version 1 of the protocol, not 2"), "{old}");
            assert!(
                say(&mut stream, b"{\"version\":1,\"request\":\"dance\"}\n")
                    .contains("not a request that this router knows")
            );
            assert_eq!(say(&mut stream, request), good);
        },
    );
}

#[test]
fn endless_lines_and_too_many_clients_are_cut_off() {
    let (_directory, path) = directory();
    let client = path.clone();
    with_server(
        &path,
        |_| Some(Reply::Cleared(1)),
        move || {
            let mut endless = UnixStream::connect(&client).unwrap();
            let reply = say(&mut endless, &vec![b' '; LONGEST_REQUEST + 1]);
            assert!(reply.contains("at most 4096 bytes"), "{reply}");
            endless.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(endless.read(&mut [0; 1]).unwrap_or(0), 0);

            // Silent clients take every place …
            let silent: Vec<_> = (0..16).map(|_| UnixStream::connect(&client).unwrap()).collect();
            let refused = loop {
                // … as soon as the server has taken note of them.
                match ask(&client, &Request::ClearMapCache { prefix: None }, PATIENCE) {
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert!(
                matches!(&refused, ClientError::Refused(why) if why.contains("too many clients")),
                "{refused:?}"
            );
            drop(silent);
            while ask(&client, &Request::ClearMapCache { prefix: None }, PATIENCE).is_err() {}
        },
    );
}

#[test]
fn only_a_socket_that_nobody_listens_at_is_replaced() {
    let (directory, path) = directory();
    let _runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let _guard = _runtime.enter();

    let stale = directory.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    assert!(matches!(ask(&stale, &Request::Reload, PATIENCE), Err(ClientError::NotRunning(_))));
    let server = Server::bind(&stale, 0o660).unwrap();
    assert_eq!(stale.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    // Somebody else's socket at the same path is not removed.
    std::fs::remove_file(&stale).unwrap();
    let _other = UnixListener::bind(&stale).unwrap();
    drop(server);
    assert!(stale.exists());

    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(Server::bind(&file, 0o600), Err(BindError::NotASocket(..))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert!(matches!(Server::bind(&file.join("below"), 0o600), Err(BindError::Io(..))));

    let error = ask(&path, &Request::Reload, PATIENCE).unwrap_err().to_string();
    assert!(error.starts_with(&format!("no router is running at {}: ", path.display())), "{error}");
}

#[test]
fn a_router_that_hangs_or_babbles_is_named() {
    let (directory, _) = directory();
    let path = directory.path().join("hang.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let error = ask(&path, &Request::Reload, Duration::from_millis(10)).unwrap_err();
    assert!(matches!(error, ClientError::TimedOut(..)), "{error}");

    let babbler = std::thread::spawn(move || {
        for answer in ["", "hello\n", "half a line"] {
            // The first connection is that of the client that gave up.
            let stream = listener.accept().unwrap().0;
            let mut stream = if answer.is_empty() { listener.accept().unwrap().0 } else { stream };
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    assert!(matches!(ask(&path, &Request::Reload, PATIENCE), Err(ClientError::HungUp(_))));
    assert!(matches!(ask(&path, &Request::Reload, PATIENCE), Err(ClientError::NotUnderstood(..))));
    assert!(matches!(ask(&path, &Request::Reload, PATIENCE), Err(ClientError::HungUp(_))));
    babbler.join().unwrap();
}

#[test]
fn the_documented_lines_are_what_is_said() {
    let iid = InstanceId::DEFAULT;
    let request = |request| serde_json::to_string(&Versioned::new(request)).unwrap();
    let filter = Filter { iid: None, net: Some("10.2.0.0/16".parse().unwrap()) };
    assert_eq!(
        request(Request::ShowMapCache { filter }),
        r#"{"version":1,"request":"show-map-cache","filter":{"iid":null,"net":"10.2.0.0/16"}}"#
    );
    let eid = Eid::new(iid, "10.2.0.1".parse().unwrap());
    assert_eq!(
        request(Request::Lig { eid, via: None }),
        r#"{"version":1,"request":"lig","eid":{"iid":0,"addr":"10.2.0.1"},"via":null}"#
    );
    let all =
        request(Request::ClearMapCache { prefix: Some(EidPrefix::new(iid, "10.0.0.0/8".parse().unwrap())) });
    assert_eq!(all, r#"{"version":1,"request":"clear-map-cache","prefix":{"iid":0,"net":"10.0.0.0/8"}}"#);
}

#[test]
fn filters_take_what_covers_and_what_is_within() {
    let eid = |text: &str, iid| EidPrefix::new(InstanceId::new(iid).unwrap(), text.parse().unwrap());
    let filter = Filter { iid: None, net: Some("10.1.0.0/16".parse().unwrap()) };
    assert!(filter.matches(&eid("10.0.0.0/8", 7)));
    assert!(filter.matches(&eid("10.1.2.0/24", 0)));
    assert!(!filter.matches(&eid("10.2.0.0/16", 0)));
    assert!(!filter.matches(&eid("::/0", 0)));
    let filter = Filter { iid: InstanceId::new(7), net: None };
    assert!(filter.matches(&eid("::/0", 7)) && !filter.matches(&eid("::/0", 0)));
    assert!(Filter::ALL.matches(&eid("::/0", 9)));
}
