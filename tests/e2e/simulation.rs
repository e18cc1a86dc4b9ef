//! The simulator's promise: the same seed gives the same events, whatever the program was built for.

use std::process::Command;

use crate::router::eidolon;
use crate::wait::Machine;

/// The event log of the shipped failover study, of two seeds in every case, by the program under test (a
/// release build in CI) and by the one that this test was built with.
#[test]
fn a_simulation_is_the_same_in_every_run_and_every_build() {
    let _machine = Machine::shared();
    let directory = tempfile::tempdir().unwrap();
    let log = |program: &str, name: &str| {
        let path = directory.path().join(name);
        let output = Command::new(program)
            .args(["sim", "configs/sim/failover.toml", "--runs", "2", "--json", "--log"])
            .arg(&path)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (std::fs::read_to_string(path).unwrap(), output.stdout)
    };
    let built = log(env!("CARGO_BIN_EXE_eidolon"), "built");
    assert!(built.0.lines().count() > 5000, "{} lines", built.0.lines().count());
    assert!(log(eidolon(), "tested") == built, "another build");
    assert!(log(eidolon(), "again") == built, "another run");
}
