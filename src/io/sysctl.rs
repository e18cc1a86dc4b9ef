//! Reading and writing kernel parameters under `/proc/sys`. Those of `net` are the calling thread's network
//! namespace's.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Reads a parameter, `net/ipv4/ip_forward` for example: slashes, because interface names may contain dots.
pub fn read(name: &str) -> io::Result<String> {
    fs::read_to_string(path(name)?).map(|value| value.trim_end().to_owned())
}

/// Writes a parameter.
pub fn write(name: &str, value: &str) -> io::Result<()> {
    fs::write(path(name)?, value)
}

/// The names directly below a directory of parameters, `net/ipv4/conf` for example, in order.
pub fn list(name: &str) -> io::Result<Vec<String>> {
    let mut names: Vec<_> =
        fs::read_dir(path(name)?)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn path(name: &str) -> io::Result<PathBuf> {
    if name.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no sysctl")));
    }
    Ok(PathBuf::from("/proc/sys").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_and_paths_stay_inside() {
        assert!(!read("kernel/ostype").unwrap().is_empty());
        assert!(list("net/ipv4/conf").unwrap().contains(&"lo".to_owned()));
        for bad in ["../etc/passwd", "/etc/passwd", "net//ipv4", "net/./x"] {
            assert_eq!(read(bad).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{bad}");
        }
    }
}
