//! Clocks of the kernel's beside those that the standard library reads.

use std::time::Duration;

/// Monotonic time since some moment in the past, precise to the kernel's tick (1 to 10 ms), and several times
/// cheaper to read than the precise clock: for what is noted with every received datagram.
pub fn coarse() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that the call may write to; with a clock that every kernel has it
    // can't fail, and if it did, the time would stay zero.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Time since the system's boot, asleep or not: goes on over processes, whatever the wall clock is set to.
pub fn since_boot() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: as above; Linux has this clock since 2.6.39.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Which boot of the system this is; `None` where the kernel doesn't say.
pub fn boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_is_known_and_its_clock_goes_on() {
        assert!(boot_id().is_some_and(|id| id != [0; 16] && Some(id) == boot_id()));
        let start = since_boot();
        assert!(start > Duration::ZERO && since_boot() >= start);
    }

    #[test]
    fn it_goes_on() {
        let start = coarse();
        assert!(start > Duration::ZERO);
        std::thread::sleep(Duration::from_millis(30));
        let passed = coarse() - start;
        assert!(passed >= Duration::from_millis(10), "{passed:?}");
    }
}
