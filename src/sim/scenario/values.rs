//! Values that only scenarios have.

use crate::config::{Fault, FromText, shorten};
use crate::sim::random::Share;

impl FromText for Share {
    const WHAT: &'static str = "a percentage";
    fn from_text(text: &str) -> Result<Self, Fault> {
        let fault = || Fault {
            message: format!("\"{}\" is not a percentage", shorten(text)),
            remedy: "give one from 0% to 100% with at most 7 digits after the point, as 0.5%".into(),
        };
        let number = text.strip_suffix('%').map(str::trim_end).ok_or_else(fault)?;
        decimal(number, 7).filter(|n| *n <= u64::from(Self::ALL)).map(|n| Self(n as u32)).ok_or_else(fault)
    }
}

/// Bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bandwidth(pub(super) Option<u64>);

impl FromText for Bandwidth {
    const WHAT: &'static str = "a bandwidth";
    fn from_text(text: &str) -> Result<Self, Fault> {
        const UNITS: [(&str, u64); 4] =
            [("kbit/s", 1000), ("Mbit/s", 1_000_000), ("Gbit/s", 1_000_000_000), ("bit/s", 1)];
        if text == "unlimited" {
            return Ok(Self(None));
        }
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let scale = UNITS.iter().find(|(name, _)| *name == unit.trim_start()).map(|(_, scale)| *scale);
        let bits = number.parse::<u64>().ok().zip(scale).and_then(|(n, scale)| n.checked_mul(scale));
        match bits.filter(|bits| (1000..=10_000_000_000_000).contains(bits)) {
            Some(bits) => Ok(Self(Some(bits))),
            None => Err(Fault {
                message: format!("\"{}\" is not a bandwidth", shorten(text)),
                remedy: "give a whole number and a unit, as 100Mbit/s or 1Gbit/s, or \"unlimited\"".into(),
            }),
        }
    }
}

/// An exponent in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exponent(pub(super) u32);

impl FromText for Exponent {
    const WHAT: &'static str = "an exponent";
    fn from_text(text: &str) -> Result<Self, Fault> {
        match decimal(text, 3) {
            Some(n) if n <= 5000 => Ok(Self(n as u32)),
            _ => Err(Fault {
                message: format!("\"{}\" is not an exponent", shorten(text)),
                remedy: "give a number from 0 to 5 with at most 3 digits after the point, as 0.8".into(),
            }),
        }
    }
}

/// A decimal number in units of its last possible digit.
fn decimal(text: &str, digits: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    let fits = !whole.is_empty() && whole.len() <= 9 && fraction.len() <= digits;
    (fits && all_digits(whole) && all_digits(fraction) && !text.ends_with('.'))
        .then(|| format!("{whole}{fraction:0<digits$}").parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_exactly() {
        let share = |text| Share::from_text(text).ok().map(|s| s.0);
        assert_eq!((share("0%"), share("100%"), share("0.5%")), (Some(0), Some(Share::ALL), Some(5_000_000)));
        assert_eq!((share("0.0000001 %"), share("12.25%")), (Some(1), Some(122_500_000)));
        for bad in ["", "%", "5", "-1%", "100.1%", "1.%", ".5%", "1e3%", "0.00000001%", "1,5%"] {
            assert_eq!(share(bad), None, "{bad}");
        }
        let bandwidth = |text| Bandwidth::from_text(text).ok().map(|b| b.0);
        assert_eq!(bandwidth("100Mbit/s"), Some(Some(100_000_000)));
        assert_eq!((bandwidth("1 Gbit/s"), bandwidth("unlimited")), (Some(Some(1_000_000_000)), Some(None)));
        for bad in ["", "100", "Mbit/s", "0Mbit/s", "100MB/s", "99999999999999999999bit/s"] {
            assert_eq!(bandwidth(bad), None, "{bad}");
        }
        let exponent = |text| Exponent::from_text(text).ok().map(|e| e.0);
        assert_eq!((exponent("1"), exponent("0.85"), exponent("0")), (Some(1000), Some(850), Some(0)));
        assert_eq!((exponent("6"), exponent("x"), exponent("0.1234")), (None, None, None));
    }
}
