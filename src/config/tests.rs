use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

#[test]
fn every_example_loads_without_a_warning() {
    let mut directories = vec![configs()];
    let mut count = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|e| e == "toml" || e == "conf") {
                let loaded = load(&path).unwrap_or_else(|report| panic!("{report}"));
                assert_eq!(loaded.warnings.to_string(), "");
                count += 1;
            }
        }
    }
    assert!(count > 0);
}
