//! What this process is allowed to do, and who else has what it wants.

use std::fs;
use std::io;

/// The capabilities in force for the calling thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Reads them from `/proc`.
    pub fn effective() -> io::Result<Self> {
        Self::parse(&fs::read_to_string("/proc/thread-self/status")?).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "/proc/thread-self/status has no CapEff line")
        })
    }

    /// CAP_NET_ADMIN: interfaces, routes, rules, TUN.
    pub fn net_admin(self) -> bool {
        const CAP_NET_ADMIN: u32 = 12;
        self.0 & (1 << CAP_NET_ADMIN) != 0
    }

    fn parse(status: &str) -> Option<Self> {
        let value = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        u64::from_str_radix(value.trim(), 16).ok().map(Self)
    }
}

/// The process that has a UDP port of the calling thread's network namespace: its number and name. `None`
/// where nobody has it, or it can't be found out.
pub fn udp_port_holder(port: u16) -> Option<(u32, String)> {
    // `/proc/net` would be the namespace of the process's first thread.
    let sockets: Vec<String> = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| table.lines().filter_map(|line| socket_on_port(line, port)).collect::<Vec<_>>())
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let has_it = fs::read_dir(process.path().join("fd")).ok()?.flatten().any(|fd| {
            fs::read_link(fd.path())
                .is_ok_and(|target| sockets.iter().any(|s| target.as_os_str() == s.as_str()))
        });
        let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        has_it.then(|| (pid, name.trim_end().to_owned()))
    })
}

/// The inode of the socket in a line of `/proc/net/udp`, if its local port is `port`.
fn socket_on_port(line: &str, port: u16) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let (_, local_port) = fields.nth(1)?.rsplit_once(':')?;
    if u16::from_str_radix(local_port, 16).ok()? != port {
        return None;
    }
    fields.nth(7)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status_file() {
        let parse =
            |hex: &str| Capabilities::parse(&format!("Name:\tx\nCapPrm:\tffff\nCapEff:\t{hex}\n")).unwrap();
        assert!(parse("0000000000001000").net_admin());
        assert!(!parse("ffffffffffffefff").net_admin());
        assert_eq!(Capabilities::parse("CapPrm:\t0\n"), None);
        Capabilities::effective().unwrap();
    }

    #[test]
    fn the_holder_of_a_port_is_found() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let (pid, name) = udp_port_holder(port).unwrap();
        assert_eq!(pid, std::process::id());
        assert!(!name.is_empty());
        drop(socket);
        assert_eq!(udp_port_holder(port), None);
    }

    #[test]
    fn lines_of_the_socket_table_are_understood() {
        let line = "  123: 00000000:10F5 00000000:0000 07 \
                    00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0";
        assert_eq!(socket_on_port(line, 4341), Some(4711));
        assert_eq!(socket_on_port(line, 4342), None);
        assert_eq!(socket_on_port("  sl  local_address rem_address   st", 4341), None);
    }
}
