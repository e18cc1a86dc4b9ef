//! Waiting for what must happen, measuring what may take only so long, and keeping out of each other's way.

use std::fs::File;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long what must happen may take on a machine however slow and busy. It is no figure of the project's: where one
/// is promised, it is measured, by [`measured`].
pub const PATIENCE: Duration = Duration::from_secs(60);

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

/// How often a measurement is taken before its figures count.
pub const TRIES: usize = 3;

/// Takes a measurement of time until its result is as promised, [`TRIES`] times at most, and tells every figure: a
/// machine that does much else holds up routers and judges, once in a while, but what is as slow each time is slow by
/// itself. `measure` leaves behind what the next try needs.
pub fn measured<T>(
    what: &str,
    promised: impl Fn(&T) -> bool,
    figures: impl Fn(&T) -> String,
    mut measure: impl FnMut() -> T,
) -> T {
    let mut all = Vec::new();
    for number in 1..=TRIES {
        let result = measure();
        let kept = promised(&result);
        all.push(figures(&result));
        tell(&format!("{what}, try {number}: {}{}", all[number - 1], if kept { "" } else { " - too much" }));
        if kept {
            return result;
        }
    }
    panic!("{what}: not as promised in any of {TRIES} tries:\n{}", all.join("\n"));
}

/// Sets a flag when dropped: what waits for it ends also where a test fails.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Says something that is to be seen of tests that pass, too.
pub fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Whether tests are to take their full time and size, which CI spares.
pub fn full_measure() -> bool {
    std::env::var_os("EIDOLON_E2E_FULL").is_some()
}

/// Held for the length of a test: tests that measure have the machine for themselves, others share it. Tells in the
/// end how long the test took, so that one sees what CI spends its time on.
pub struct Machine {
    _lock: File,
    asked: Instant,
    had: Instant,
    alone: bool,
}

impl Machine {
    /// Together with other tests.
    pub fn shared() -> Self {
        Self::take(false)
    }

    /// Alone.
    pub fn alone() -> Self {
        Self::take(true)
    }

    fn take(alone: bool) -> Self {
        let asked = Instant::now();
        // Files, because test runners may give every test a process of its own.
        let file = |name: &str| File::create(std::env::temp_dir().join(name)).expect("lock file");
        // One waits at a time, so that those who come later and share don't keep out who would be alone.
        let door = file("eidolon-e2e-door.lock");
        door.lock().expect("lock");
        let lock = file("eidolon-e2e-machine.lock");
        if alone { lock.lock() } else { lock.lock_shared() }.expect("lock");
        Self { _lock: lock, asked, had: Instant::now(), alone }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let (took, waited) = (self.had.elapsed(), self.had - self.asked);
        let thread = thread::current();
        tell(&format!(
            "{} took {:.1} s{}, after waiting {:.1} s for the machine",
            thread.name().unwrap_or("a test"),
            took.as_secs_f64(),
            if self.alone { " alone" } else { "" },
            waited.as_secs_f64()
        ));
    }
}
