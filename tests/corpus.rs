//! Replays the seeds of the fuzz targets, so that what once broke never breaks again unnoticed.

#[path = "fuzz/checks.rs"]
mod checks;
#[path = "fuzz/data_plane.rs"]
mod data_plane;

use std::fs;
use std::path::Path;

use eidolon::wire::{Message, MessageType};

/// Name and content of every seed of `target`.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut seeds: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap())
        })
        .collect();
    seeds.sort();
    seeds
}

/// Every seed, cut at every length too.
fn replay(target: &str, check: impl Fn(&[u8])) -> usize {
    let seeds = seeds(target);
    for (_, bytes) in &seeds {
        (0..=bytes.len()).for_each(|len| check(&bytes[..len]));
    }
    seeds.len()
}

#[test]
fn control_decode() {
    assert!(replay("control_decode", checks::control_decode) >= 20);
}

#[test]
fn ecm() {
    assert!(replay("ecm", checks::ecm) >= 5);
}

#[test]
fn data_packet() {
    assert!(replay("data_packet", data_plane::data_packet) >= 10);
}

#[test]
fn vrrp() {
    assert!(
        replay("vrrp", |bytes| {
            checks::vrrp(bytes);
        }) >= 10
    );
    for (name, bytes) in seeds("vrrp") {
        assert_eq!(checks::vrrp(&bytes), !name.starts_with("bad-"), "{name}");
    }
}

/// Seeds are only worth something if they reach what they are named for: `bad-…` must not decode, all
/// others must, and every type of message is among them.
#[test]
fn seeds_are_what_their_names_say() {
    let mut kinds = Vec::new();
    for (name, bytes) in seeds("control_decode") {
        match Message::decode(&bytes) {
            Ok(message) => {
                assert!(!name.starts_with("bad-"), "{name} decodes");
                kinds.push(message.kind());
            }
            Err(error) => assert!(name.starts_with("bad-"), "{name}: {error}"),
        }
    }
    for number in 1..16 {
        if let Some(kind) = MessageType::from_number(number) {
            assert!(kinds.contains(&kind), "no seed is a {kind}");
        }
    }
}
