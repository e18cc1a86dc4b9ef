//! The kernel's coarse clock.

use std::time::Duration;

/// Monotonic time since some moment in the past, precise to the kernel's tick (1 to 10 ms), and several times cheaper to
/// read than the precise clock: for what is noted with every received datagram.
pub fn coarse() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that the call may write to; with a clock that every kernel has it can't fail,
    // and if it did, the time would stay zero.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on() {
        let start = coarse();
        assert!(start > Duration::ZERO);
        std::thread::sleep(Duration::from_millis(30));
        let passed = coarse() - start;
        assert!(passed >= Duration::from_millis(10), "{passed:?}");
    }
}
