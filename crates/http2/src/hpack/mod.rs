//! HPACK, RFC 7541: headers to bytes and back, with a table on either side. Knows nothing of frames.

mod decode;
mod encode;
mod huffman;
mod integer;
mod statics;
mod table;

pub use decode::{Decoder, HpackError};
pub use encode::Encoder;
