/// LISP Shared Extension, type 15 (RFC 9304).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedExtension {
    /// 12-bit sub-type.
    pub sub_type: u16,
    /// The 16 bits that follow the sub-type in the first word.
    pub flags: u16,
    /// What follows the first word.
    pub payload: Vec<u8>,
}
