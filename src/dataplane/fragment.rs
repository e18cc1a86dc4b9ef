//! Fragmentation of inner IPv4 packets that may be fragmented (RFC 9300 §7.1, RFC 791 §3.2). The payload
//! stays where it is: each fragment is a new header and a stretch of the packet.

use crate::wire::ip::{self, IPV4_HEADER, Inner};

/// A packet cut into fragments.
#[derive(Debug)]
pub(super) struct Fragments {
    header_len: usize,
    len: usize,
    step: usize,
    next: usize,
    /// How many fragments there are.
    pub(super) count: usize,
}

/// One fragment: which bytes of the packet follow its header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fragment {
    start: usize,
    pub(super) data: std::ops::Range<usize>,
}

impl Fragments {
    /// Cuts into as few fragments as fit `max` bytes each, all of about the same size. `None` if `max` holds
    /// no more than a header.
    pub(super) fn new(inner: &Inner, max: usize) -> Option<Self> {
        let header_len = inner.transport;
        let data = inner.len.checked_sub(header_len)?;
        let most = max.checked_sub(header_len)? & !7;
        let count = data.div_ceil(Some(most).filter(|&m| m > 0)?).max(1);
        Some(Self {
            header_len,
            len: inner.len,
            step: data.div_ceil(count).next_multiple_of(8).min(most),
            next: header_len,
            count,
        })
    }

    /// Writes the header of a fragment of `packet` into `header`, which is as long as the packet's own, and
    /// gives the header's length: later fragments leave out the options that are not copied. `None`, with
    /// nothing sensible written, if the packet is not what it was.
    pub(super) fn write_header(
        &self,
        fragment: &Fragment,
        packet: &[u8],
        header: &mut [u8],
    ) -> Option<usize> {
        let header = header.get_mut(..self.header_len)?;
        header.copy_from_slice(packet.get(..self.header_len)?);
        let first = fragment.start == 0;
        let header_len = if first { self.header_len } else { drop_uncopied_options(header) };
        let fixed = header.first_chunk_mut::<IPV4_HEADER>()?;
        let flags = u16::from_be_bytes([fixed[6], fixed[7]]);
        let more = fragment.data.end < self.len;
        let offset = (flags & 0x1fff).checked_add((fragment.start / 8) as u16).filter(|&o| o <= 0x1fff)?;
        [fixed[6], fixed[7]] = (flags & 0xe000 | if more { 0x2000 } else { 0 } | offset).to_be_bytes();
        [fixed[2], fixed[3]] = u16::try_from(header_len + fragment.data.len()).ok()?.to_be_bytes();
        fixed[0] = 0x40 | (header_len / 4) as u8;
        ip::write_ipv4_checksum(header);
        Some(header_len)
    }
}

impl Iterator for Fragments {
    type Item = Fragment;

    fn next(&mut self) -> Option<Fragment> {
        let start = self.next;
        let end = (start + self.step).min(self.len);
        self.next = end;
        (start < end).then(|| Fragment { start: start - self.header_len, data: start..end })
    }
}

/// Moves the options that every fragment carries (copied flag, RFC 791 §3.1) to the front, pads them, and
/// gives the new header length.
fn drop_uncopied_options(header: &mut [u8]) -> usize {
    let (mut read, mut write) = (IPV4_HEADER, IPV4_HEADER);
    while let Some(&kind) = header.get(read) {
        let len = match kind {
            0 => break,
            1 => 1,
            _ => header.get(read + 1).map_or(0, |&l| usize::from(l)),
        };
        if (kind != 1 && len < 2) || read + len > header.len() {
            break;
        }
        if kind & 0x80 != 0 {
            header.copy_within(read..read + len, write);
            write += len;
        }
        read += len;
    }
    let end = write.next_multiple_of(4).min(header.len());
    if let Some(padding) = header.get_mut(write..end) {
        padding.fill(0);
    }
    end
}

#[cfg(test)]
mod tests {
    use etherparse::defrag::IpDefragPool;
    use proptest::prelude::*;

    use super::*;

    fn packet(options: &[u8], payload: usize, flags: u16) -> Vec<u8> {
        let ihl = (20 + options.len()) / 4;
        let len = 20 + options.len() + payload;
        let mut p = vec![0x40 | ihl as u8, 0x28, (len >> 8) as u8, len as u8, 0x12, 0x34, 0, 0, 60, 17, 0, 0];
        p[6..8].copy_from_slice(&flags.to_be_bytes());
        p.extend([10, 0, 0, 1, 192, 0, 2, 1]);
        p.extend(options);
        p.extend((0..payload).map(|i| (i * 31) as u8));
        ip::write_ipv4_checksum(&mut p);
        p
    }

    fn cut(packet: &[u8], max: usize) -> Vec<Vec<u8>> {
        let inner = Inner::parse(packet).unwrap();
        let mut fragments = Fragments::new(&inner, max).unwrap();
        let mut out = Vec::new();
        while let Some(fragment) = fragments.next() {
            let mut header = vec![0xa5; inner.transport];
            let len = fragments.write_header(&fragment, packet, &mut header).unwrap();
            out.push([&header[..len], &packet[fragment.data.clone()]].concat());
        }
        out
    }

    #[test]
    fn two_halves_as_the_rfc_has_it() {
        let fragments = cut(&packet(&[], 1480, 0), 1464);
        assert_eq!(fragments.iter().map(Vec::len).collect::<Vec<_>>(), [20 + 744, 20 + 736]);
    }

    #[test]
    fn options_marked_so_are_in_every_fragment_and_others_in_the_first_only() {
        // Record route (not copied), no-op, loose source route (copied), end.
        let options = [7, 7, 4, 0, 0, 0, 0, 1, 131, 3, 4, 0];
        let fragments = cut(&packet(&options, 100, 0), 80);
        assert_eq!(fragments[0][20..32], options);
        for later in &fragments[1..] {
            assert_eq!((later[0], &later[20..24]), (0x46, &[131, 3, 4, 0][..]));
        }
        assert!(fragments.iter().all(|f| ip::ipv4_header_is_valid(f)));
    }

    #[test]
    fn a_fragment_of_a_fragment_keeps_its_place() {
        let original = packet(&[], 800, 0x2000 | 100);
        let fragments = cut(&original, 420);
        let offsets: Vec<_> = fragments.iter().map(|f| u16::from_be_bytes([f[6], f[7]])).collect();
        assert_eq!(offsets, [0x2000 | 100, 0x2000 | 150], "more fragments follow the last one too");
    }

    proptest! {
        /// Reassembly, by another implementation, gives the packet back.
        #[test]
        fn reassembly_gives_the_original(payload in 1usize..9000, max in 68usize..1500) {
            let original = packet(&[], payload, 0);
            let fragments = cut(&original, max);
            prop_assert!(fragments.iter().all(|f| f.len() <= max && ip::ipv4_header_is_valid(f)));
            prop_assert_eq!(fragments.len(), (payload.div_ceil((max - 20) & !7)).max(1));
            if fragments.len() == 1 {
                prop_assert_eq!(&fragments[0], &original);
                return Ok(());
            }
            let mut pool = IpDefragPool::<(), ()>::new();
            let mut whole = None;
            for f in fragments.iter().rev() {
                let sliced = etherparse::SlicedPacket::from_ip(f).unwrap();
                if let Some(done) = pool.process_sliced_packet(&sliced, (), ()).unwrap() {
                    whole = Some(done.payload);
                }
            }
            prop_assert_eq!(whole.unwrap(), &original[20..]);
        }

        #[test]
        fn hostile_headers_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 20..200), max in 0usize..200
        ) {
            let mut bytes = bytes;
            bytes[0] = 0x40 | (bytes[0] & 0x0f);
            let len = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            if let Ok(inner) = Inner::parse(&bytes)
                && let Some(mut fragments) = Fragments::new(&inner, max)
            {
                while let Some(f) = fragments.next() {
                    fragments.write_header(&f, &bytes, &mut vec![0; inner.transport]);
                }
            }
        }
    }
}
