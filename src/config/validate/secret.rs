//! Secrets: fetched from where the file says, and never shown.

use zeroize::Zeroizing;

use super::Context;
use crate::auth::{Key, Secret};
use crate::config::problem::Place;
use crate::config::raw::{RawKey, RawKeySource};

/// Longest secret, and key file, in bytes.
pub(in crate::config) const MOST_BYTES: usize = 4096;

/// Fetches a key; `None` if that failed, which is noted.
pub(super) fn key(cx: &Context<'_>, raw: &RawKey) -> Option<Key> {
    let source = raw.source.as_ref()?;
    let place = &source.place;
    let secret = match &source.value {
        RawKeySource::Inline(text) => Zeroizing::new(text.0.as_bytes().to_vec()),
        RawKeySource::Environment(variable) => match cx.sources.variable(&variable.0) {
            Some(value) => value,
            None => {
                let message = format!("the environment has no variable {}", variable.0);
                cx.problems.error(place, message, "set it for the router, as in its unit file");
                return None;
            }
        },
        RawKeySource::File(path) => from_file(cx, place, &cx.directory.join(path))?,
    };
    if secret.is_empty() {
        cx.problems.error(place, "the secret is empty", "give the secret that the other side has");
        return None;
    }
    if secret.len() > MOST_BYTES {
        let message = format!("the secret is longer than {MOST_BYTES} bytes");
        cx.problems.error(place, message, "give a shorter one");
        return None;
    }
    Some(Key {
        id: raw.id.value,
        algorithm: raw.algorithm,
        secret: Secret::new(secret.to_vec()),
        truncate: raw.truncate,
    })
}

fn from_file(cx: &Context<'_>, place: &Place, path: &std::path::Path) -> Option<Zeroizing<Vec<u8>>> {
    let file = match cx.sources.file(path) {
        Ok(file) => file,
        Err(error) => {
            let message = format!("{} can't be read: {error}", path.display());
            cx.problems.error(place, message, "give the path of a file that holds the secret");
            return None;
        }
    };
    if file.mode & 0o004 != 0 {
        let message = format!("{} is readable for everybody", path.display());
        cx.problems.warning(place, message, "chmod 600 it");
    }
    let mut secret = file.content;
    while matches!(secret.last(), Some(b'\n' | b'\r')) {
        secret.pop();
    }
    Some(secret)
}
