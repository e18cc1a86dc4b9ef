//! The only place that writes to standard output and error. A reader that goes away (`eidolon show … |
//! head`) ends the output without a complaint.

use std::fmt::Display;
use std::io::{self, Write as _};

/// Writes a line, or several, to standard output.
pub fn out(text: impl Display) {
    let mut stdout = io::stdout().lock();
    // Nobody is left to be told when standard output is closed.
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
}

/// Writes a line, or several, to standard error.
pub fn err(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
