//! VRRP on this machine: a thread of its own, so that nothing else that the router does can make it late.
//!
//! Carries frames and the news of interfaces to `proto::redundancy::vrrp`, and what that says to the kernel.
//! Takes no protocol decisions.

mod addresses;
mod service;
mod views;

use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

pub(super) use addresses::link_name;

use super::RunError;
use super::clock::Clock;
use crate::mgmt::view;
use crate::proto::redundancy::vrrp::VirtualRouterConfig;
use service::Service;

/// How long the end of the thread is waited for: it resigns and takes addresses back.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// What the control loop has of VRRP.
#[derive(Debug)]
pub(super) struct Vrrp {
    clock: Clock,
    /// Missing as long as there are no virtual routers.
    thread: Option<(mpsc::UnboundedSender<Command>, JoinHandle<()>)>,
    locators: bool,
}

/// What the thread is told.
enum Command {
    /// Asks for the state.
    Show(oneshot::Sender<view::Vrrp>),
    /// Another configuration.
    Reload(Vec<VirtualRouterConfig>),
    /// Whether any locator of the site is up.
    Locators(bool),
}

impl Vrrp {
    /// Starts the thread, if there is something for it to do.
    ///
    /// # Errors
    /// If another router of this network namespace does VRRP on one of the interfaces, or the kernel refuses.
    pub(super) async fn start(configs: Vec<VirtualRouterConfig>, clock: Clock) -> Result<Self, RunError> {
        let mut vrrp = Self { clock, thread: None, locators: true };
        vrrp.reload(configs).await?;
        Ok(vrrp)
    }

    /// Takes another configuration in.
    pub(super) async fn reload(&mut self, configs: Vec<VirtualRouterConfig>) -> Result<(), RunError> {
        if let Some((commands, _)) = &self.thread {
            // Fails only if the thread died, which it said.
            let _ = commands.send(Command::Reload(configs));
            return Ok(());
        }
        if configs.is_empty() {
            return Ok(());
        }
        let (commands, inbox) = mpsc::unbounded_channel();
        let (started, outcome) = oneshot::channel();
        let clock = self.clock;
        let thread = thread::Builder::new()
            .name("vrrp".into())
            .spawn(move || run(configs, clock, inbox, started))
            .map_err(|error| RunError(format!("can't start a thread for VRRP: {error}")))?;
        match outcome.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(RunError("the thread for VRRP ended at once".into())),
        }
        if !self.locators {
            let _ = commands.send(Command::Locators(false));
        }
        self.thread = Some((commands, thread));
        Ok(())
    }

    /// Tells whether any locator of the site is up.
    pub(super) fn locators(&mut self, up: bool) {
        if self.locators != up {
            self.locators = up;
            if let Some((commands, _)) = &self.thread {
                let _ = commands.send(Command::Locators(up));
            }
        }
    }

    /// Asks for the state.
    pub(super) async fn view(&self) -> view::Vrrp {
        let Some((commands, _)) = &self.thread else { return view::Vrrp::default() };
        let (answer, view) = oneshot::channel();
        let _ = commands.send(Command::Show(answer));
        view.await.unwrap_or_default()
    }

    /// Resigns, takes addresses back, and ends.
    pub(super) async fn close(self) {
        let Some((commands, thread)) = self.thread else { return };
        drop(commands);
        if timeout(CLOSE_TIMEOUT, spawn_blocking(move || drop(thread.join()))).await.is_err() {
            tracing::warn!("virtual addresses may have stayed: the kernel took too long");
        }
    }
}

/// The thread.
fn run(
    configs: Vec<VirtualRouterConfig>,
    clock: Clock,
    inbox: mpsc::UnboundedReceiver<Command>,
    started: oneshot::Sender<Result<(), RunError>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(RunError(format!("can't make an event loop for VRRP: {error}"))));
            return;
        }
    };
    runtime.block_on(async {
        match Service::start(configs, clock).await {
            Ok(service) => {
                let _ = started.send(Ok(()));
                service.run(inbox).await;
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        }
    });
    runtime.shutdown_background();
}
