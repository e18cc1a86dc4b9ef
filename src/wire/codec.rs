//! Reading and writing of fields in network byte order. A read past the end is an error that names the field,
//! a write that does not fit its length field is an error in release builds too.

use super::{DecodeError, EncodeError};

/// A cursor over bytes that are still to be read. Copies share the bytes, not the position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// From the first of `bytes`.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub(crate) const fn len(&self) -> usize {
        self.rest.len()
    }

    /// Whether all is read.
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes; `field` is what they are for.
    pub(crate) fn take(&mut self, count: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(DecodeError::Missing(field))?;
        self.rest = tail;
        Ok(head)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Missing(field))?;
        self.rest = tail;
        Ok(*head)
    }

    /// One byte.
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// Two bytes.
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// Eight bytes.
    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// A reader of the next `count` bytes only, for what a length field delimits.
    pub(crate) fn sub(&mut self, count: usize, field: &'static str) -> Result<Self, DecodeError> {
        self.take(count, field).map(Self::new)
    }

    /// All bytes that are left.
    pub(crate) fn take_rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The bytes that are left, without consuming them.
    pub(crate) const fn peek(&self) -> &'a [u8] {
        self.rest
    }

    /// Fails where something is left.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.is_empty() { Ok(()) } else { Err(DecodeError::TrailingData(self.len())) }
    }
}

/// Appends fields to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Appends to `bytes`, whose content stays.
    pub(crate) const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// What was written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.slice(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.slice(&value.to_be_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.slice(&value.to_be_bytes());
    }

    pub(crate) fn slice(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// A count in one byte.
    pub(crate) fn count8(&mut self, count: usize, field: &'static str) -> Result<(), EncodeError> {
        let value = u8::try_from(count).map_err(|_| EncodeError::TooMany { field, count, max: 255 })?;
        self.u8(value);
        Ok(())
    }

    /// A 16-bit length and what `content` writes, which it is the length of.
    pub(crate) fn with_len16(
        &mut self,
        field: &'static str,
        content: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let at = self.bytes.len();
        self.u16(0);
        let start = self.bytes.len();
        content(self)?;
        let len = self.bytes.len().saturating_sub(start);
        let value = u16::try_from(len).map_err(|_| EncodeError::TooLong {
            field,
            len,
            max: usize::from(u16::MAX),
        })?;
        if let Some(prefix) = self.bytes.get_mut(at..start) {
            prefix.copy_from_slice(&value.to_be_bytes());
        }
        Ok(())
    }
}

/// `bit` where `set`, 0 otherwise.
pub(crate) const fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reader_names_the_field_that_is_cut_off_and_keeps_its_place() {
        let mut r = Reader::new(&[1, 2, 3]);
        assert_eq!(r.u16("a"), Ok(0x0102));
        assert_eq!(r.u16("b"), Err(DecodeError::Missing("b")));
        assert_eq!(r.u8("c"), Ok(3));
        assert_eq!(r.finish(), Ok(()));
    }

    #[test]
    fn sub_readers_end_where_their_length_says() {
        let mut r = Reader::new(&[1, 2, 3]);
        let mut sub = r.sub(2, "sub").unwrap();
        assert_eq!(sub.take(3, "x"), Err(DecodeError::Missing("x")));
        assert_eq!(sub.finish(), Err(DecodeError::TrailingData(2)));
        assert_eq!(r.take_rest(), &[3]);
    }

    #[test]
    fn length_prefixes_nest_and_refuse_what_does_not_fit() {
        let mut w = Writer::new(vec![0xa5]);
        w.with_len16("outer", |w| {
            w.u8(9);
            w.with_len16("inner", |w| {
                w.u32(7);
                Ok(())
            })
        })
        .unwrap();
        assert_eq!(w.into_bytes(), [0xa5, 0, 7, 9, 0, 4, 0, 0, 0, 7]);
        let mut w = Writer::default();
        let result = w.with_len16("field", |w| {
            w.slice(&vec![0; 65_536]);
            Ok(())
        });
        assert_eq!(result, Err(EncodeError::TooLong { field: "field", len: 65_536, max: 65_535 }));
        assert_eq!(
            Writer::default().count8(256, "records"),
            Err(EncodeError::TooMany { field: "records", count: 256, max: 255 })
        );
    }
}
