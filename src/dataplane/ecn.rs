//! Explicit Congestion Notification through the tunnel: RFC 6040, normal mode. An ECN field is the lower two
//! bits of a TOS or traffic class.

/// The ECN bits of a TOS or traffic class.
pub const MASK: u8 = 0b11;
/// The sender does not know ECN.
pub const NOT_ECT: u8 = 0b00;
/// ECN-capable transport, codepoint 1.
pub const ECT_1: u8 = 0b01;
/// ECN-capable transport, codepoint 0.
pub const ECT_0: u8 = 0b10;
/// Congestion experienced.
pub const CE: u8 = 0b11;

/// The outer ECN field of a packet with this inner TOS: a copy (RFC 6040 §4.1, normal mode).
pub const fn encapsulate(inner: u8) -> u8 {
    inner & MASK
}

/// The ECN field that a packet leaves the tunnel with, from the inner and outer TOS; `None` where it must be
/// dropped: its sender can't be told of congestion in any way but by losing it (RFC 6040 §4.2, figure 4).
#[inline]
pub const fn decapsulate(inner: u8, outer: u8) -> Option<u8> {
    /// By inner field, and then by outer one, both in the order of the codepoints.
    const LEAVING: [[Option<u8>; 4]; 4] = [
        [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None],
        [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)],
        [Some(ECT_0), Some(ECT_1), Some(ECT_0), Some(CE)],
        [Some(CE), Some(CE), Some(CE), Some(CE)],
    ];
    LEAVING[(inner & MASK) as usize][(outer & MASK) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figure 4 of RFC 6040, row by row: arriving inner header; columns: arriving outer header Not-ECT,
    /// ECT(0), ECT(1), CE.
    #[test]
    fn every_cell_of_the_decapsulation_table() {
        let columns = [NOT_ECT, ECT_0, ECT_1, CE];
        let rows = [
            (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
            (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
            (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
            (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
        ];
        for (inner, want) in rows {
            for (outer, want) in columns.into_iter().zip(want) {
                // DSCP bits don't matter.
                assert_eq!(
                    decapsulate(inner | 0xa0, outer | 0x58),
                    want,
                    "inner {inner:02b} outer {outer:02b}"
                );
            }
        }
    }

    /// Figure 3, normal mode.
    #[test]
    fn the_outer_field_is_a_copy() {
        for ecn in [NOT_ECT, ECT_0, ECT_1, CE] {
            assert_eq!(encapsulate(ecn | 0xb8), ecn);
        }
    }
}
