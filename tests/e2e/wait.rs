//! Waiting for what must happen, and keeping out of each other's way.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

/// Waits until `condition` holds; whether it did within `limit`.
pub fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if condition() {
            return true;
        }
        if start.elapsed() >= limit {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `condition` holds, and panics naming `what` when it does not within `limit`.
pub fn until(what: &str, limit: Duration, condition: impl FnMut() -> bool) {
    assert!(within(limit, condition), "waited {limit:?} in vain for {what}");
}

/// Whether tests are to take their full time and size, which CI spares.
pub fn full_measure() -> bool {
    std::env::var_os("EIDOLON_E2E_FULL").is_some()
}

/// Held for the length of a test: tests that measure have the machine for themselves, others share it.
pub struct Machine(#[expect(dead_code, reason = "held for its lock")] File);

impl Machine {
    /// Together with other tests.
    pub fn shared() -> Self {
        let file = Self::file();
        file.lock_shared().expect("lock");
        Self(file)
    }

    /// Alone.
    pub fn alone() -> Self {
        let file = Self::file();
        file.lock().expect("lock");
        Self(file)
    }

    // A file, because test runners may give every test a process of its own.
    fn file() -> File {
        File::create(std::env::temp_dir().join("eidolon-e2e-machine.lock")).expect("lock file")
    }
}
