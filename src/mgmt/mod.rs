//! The control socket, and the views and tables behind `show`. Works on snapshots, never on live mutable state.
