//! The thread's event loop, and the sockets.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use super::addresses::Addresses;
use super::{Command, views};
use crate::io::link::{ETHERNET_HEADER, LinkSocket};
use crate::io::netlink::{Interface, InterfaceMonitor, Netlink, NetworkEvent};
use crate::proto::redundancy::vrrp::{Input, InterfaceState, Key, Output, VirtualRouterConfig, Vrrp};
use crate::runtime::RunError;
use crate::runtime::clock::Clock;
use crate::runtime::kernel::PROTOCOL as RT_PROTOCOL;
use crate::types::Instant;
use crate::wire::vrrp::{GROUP_V4, GROUP_V6, PROTOCOL, advertisement_frame, announcement_frame, virtual_mac};

/// Frames that wait for the loop; more are lost, as they would be in the kernel.
const FRAMES: usize = 256;
/// The longest frame of any use: 255 IPv6 addresses.
const LONGEST: usize = 4608;

/// Everything that the thread owns.
pub(super) struct Service {
    machine: Vrrp,
    clock: Clock,
    monitor: InterfaceMonitor,
    addresses: Addresses,
    links: BTreeMap<String, Link>,
    frames: (mpsc::Sender<Frame>, mpsc::Receiver<Frame>),
}

/// An IP packet, and the interface that it came in by.
struct Frame {
    interface: Arc<str>,
    packet: Vec<u8>,
}

/// An interface with virtual routers on it.
struct Link {
    index: u32,
    socket: Arc<AsyncFd<LinkSocket>>,
    reader: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Service {
    pub(super) async fn start(configs: Vec<VirtualRouterConfig>, clock: Clock) -> Result<Self, RunError> {
        let failed = |error: std::io::Error| RunError(format!("VRRP can't talk to the kernel: {error}"));
        let netlink = Netlink::open().map_err(failed)?;
        let monitor = InterfaceMonitor::open(netlink.clone(), RT_PROTOCOL).map_err(failed)?;
        let mut addresses = Addresses::new(netlink);
        addresses.claim(&configs).await?;
        Ok(Self {
            machine: Vrrp::new(configs),
            clock,
            monitor,
            addresses,
            links: BTreeMap::new(),
            frames: mpsc::channel(FRAMES),
        })
    }

    /// Runs until nobody is left to command; then undoes everything.
    pub(super) async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        loop {
            let wake = self.machine.poll_timeout().map(|at| self.clock.to_tokio(at));
            tokio::select! {
                // Time first: a flood of frames must not keep us from advertising.
                biased;
                () = sleep_until(wake.unwrap_or_else(|| self.clock.to_tokio(Instant::FAR_FUTURE))),
                    if wake.is_some() => self.machine.handle_timeout(self.clock.now()),
                command = inbox.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => break,
                },
                Some(frame) = self.frames.1.recv() => {
                    let input = Input::Packet { interface: &frame.interface, packet: &frame.packet };
                    self.machine.handle(self.clock.now(), input);
                }
                event = self.monitor.next() => {
                    if let NetworkEvent::Interface { name, .. } = event {
                        self.interface(&name);
                    }
                }
            }
            self.drain().await;
        }
        self.machine.shutdown();
        self.drain().await;
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Show(answer) => {
                let _ = answer.send(views::vrrp(&self.machine, self.clock.now()));
            }
            Command::Reload(configs) => {
                if let Err(error) = self.addresses.claim(&configs).await {
                    tracing::error!("virtual routers stay as they are: {error}");
                    return;
                }
                self.machine.reload(self.clock.now(), configs);
                let names: Vec<String> = self.monitor.interfaces().iter().map(|i| i.name.clone()).collect();
                names.iter().for_each(|name| self.interface(name));
            }
            Command::Locators(reachable) => {
                self.machine.handle(self.clock.now(), Input::Locators { reachable });
            }
        }
    }

    /// Takes note of what an interface is like now.
    fn interface(&mut self, name: &str) {
        let interface = self.monitor.interfaces().iter().find(|interface| interface.name == name);
        let ours = self.machine.routers().any(|router| router.config().key.interface == name);
        let index = interface.filter(|interface| ours && interface.up).map(|interface| interface.index);
        if self.links.get(name).map(|link| link.index) != index {
            self.links.remove(name);
            if let Some(index) = index {
                match self.open(name, index) {
                    Ok(link) => {
                        self.links.insert(name.to_owned(), link);
                    }
                    Err(error) => tracing::warn!("{}", not_heard(name, &error)),
                }
            }
        }
        let mut state = interface.map(|interface| self.state(interface)).unwrap_or_default();
        state.running &= !ours || self.links.contains_key(name);
        self.machine.handle(self.clock.now(), Input::Interface { name, state });
    }

    /// The addresses that advertisements come from: the interface's own, not the virtual ones, unless it has
    /// no other.
    fn state(&self, interface: &Interface) -> InterfaceState {
        let routers = self.machine.routers().filter(|router| router.config().key.interface == interface.name);
        let virtual_: Vec<IpAddr> =
            routers.flat_map(|router| router.config().addresses.iter().copied()).collect();
        let first = |wanted: &dyn Fn(&IpAddr) -> bool| {
            let all = || interface.addresses.iter().map(|a| a.address).filter(|a| wanted(a));
            all().find(|address| !virtual_.contains(address)).or_else(|| all().next())
        };
        InterfaceState {
            running: interface.running,
            ipv4: first(&IpAddr::is_ipv4).and_then(|a| if let IpAddr::V4(a) = a { Some(a) } else { None }),
            ipv6: first(&|a| matches!(a, IpAddr::V6(a) if a.is_unicast_link_local()))
                .and_then(|a| if let IpAddr::V6(a) = a { Some(a) } else { None }),
        }
    }

    fn open(&self, name: &str, index: u32) -> std::io::Result<Link> {
        let socket = Arc::new(LinkSocket::open(index, PROTOCOL, GROUP_V4, GROUP_V6)?.into_async()?);
        let reader = tokio::spawn(read(name.into(), Arc::clone(&socket), self.frames.0.clone()));
        Ok(Link { index, socket, reader })
    }

    /// Does everything that the machine wants done.
    async fn drain(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send { key, source, message } => {
                    let mac = self.mac(&key);
                    match advertisement_frame(mac, source, &message) {
                        Ok(frame) => self.send(&key, &frame),
                        Err(error) => tracing::warn!("{key}: {error}"),
                    }
                }
                Output::Take(key) => {
                    if let (Some(config), Some(link)) = (self.config(&key), self.links.get(&key.interface)) {
                        self.addresses.take(&config, link.index).await;
                    }
                }
                Output::Leave(key) => self.addresses.leave(&key).await,
                Output::Announce(key) => {
                    let mac = self.mac(&key);
                    for address in self.config(&key).map(|config| config.addresses).unwrap_or_default() {
                        self.send(&key, &announcement_frame(mac, address));
                    }
                }
                Output::Event(event) => match event.is_warning() {
                    true => tracing::warn!(target: "eidolon::vrrp", "{event}"),
                    false => tracing::info!(target: "eidolon::vrrp", "{event}"),
                },
            }
        }
    }

    fn config(&self, key: &Key) -> Option<VirtualRouterConfig> {
        self.machine.router(key).map(|router| router.config().clone())
    }

    /// The MAC address that a virtual router's frames come from.
    fn mac(&self, key: &Key) -> [u8; 6] {
        // One that a reload removed has resigned with the address that it had.
        let is_virtual = match self.machine.router(key) {
            Some(router) => router.config().virtual_mac,
            None => self.addresses.has_virtual_mac(key),
        };
        match self.links.get(&key.interface) {
            Some(link) if !is_virtual => link.socket.get_ref().mac(),
            _ => virtual_mac(key.family, key.vrid),
        }
    }

    fn send(&self, key: &Key, frame: &[u8]) {
        let Some(link) = self.links.get(&key.interface) else { return };
        if let Err(error) = link.socket.get_ref().send(frame) {
            // The next one is due soon.
            tracing::debug!("{key}: not sent: {error}");
        }
    }
}

/// Why nothing is heard on an interface, and what to do.
fn not_heard(interface: &str, error: &std::io::Error) -> String {
    let remedy = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "; run as root or give CAP_NET_RAW",
        _ => "",
    };
    format!("VRRP can't listen on {interface}: {error}{remedy}")
}

/// Reads a link's frames until it is gone.
async fn read(interface: Arc<str>, socket: Arc<AsyncFd<LinkSocket>>, frames: mpsc::Sender<Frame>) {
    let mut buffer = vec![0; LONGEST];
    loop {
        match socket.async_io(Interest::READABLE, |socket| socket.recv(&mut buffer)).await {
            Ok(len) => {
                let packet = buffer.get(ETHERNET_HEADER..len).unwrap_or_default().to_vec();
                // A full queue loses frames, as the kernel's would.
                let _ = frames.try_send(Frame { interface: Arc::clone(&interface), packet });
            }
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
            Err(error) => {
                tracing::warn!("VRRP on {interface}: {error}");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        let said = |errno| not_heard("e0", &std::io::Error::from_raw_os_error(errno));
        assert!(said(libc::EPERM).ends_with("; run as root or give CAP_NET_RAW"), "{}", said(libc::EPERM));
        assert!(!said(libc::ENODEV).contains("CAP_NET_RAW"), "{}", said(libc::ENODEV));
    }
}
