//! The `eidolon` binary; everything lives in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    eidolon::cli::main()
}
