//! The codec's bounds, each with its arithmetic.

/// The largest payload of a frame that is taken: the protocol's smallest allowed value, so that a frame cut in two by a
/// read costs a connection at most 16 KiB.
pub const FRAME_BYTES_MAX: usize = 16_384;

/// The largest payload of a frame that is sent, whatever the peer would take: others get their turn after 64 KiB.
pub const FRAME_BYTES_SENT_MAX: usize = 64 << 10;

/// Windows end here (RFC 9113 §6.9.1).
pub const WINDOW_BYTES_MAX: i64 = (1 << 31) - 1;

/// Both ends' windows before anybody said anything (RFC 9113 §6.9.2).
pub const WINDOW_BYTES_INITIAL: u32 = 65_535;

/// The header table of either direction: the protocol's default. Two of them are the larger part of an idle
/// connection, and grow only as far as they are used.
pub const HEADER_TABLE_BYTES: usize = 4_096;

/// A list of headers as RFC 9113 §6.5.2 counts it: 8 KiB of token, and as much again of everything else, four times.
/// With 32 counted for each field, it also bounds their number to 2,048.
pub const HEADER_LIST_BYTES_MAX: usize = 64 << 10;

/// Streams a peer may have open by default: at 100 bytes, 25 KB.
pub const STREAMS_MAX: u32 = 256;

/// Streams that were reset and are remembered, so that what was under way for them is told from a mistake: 64 of
/// 8 bytes are 512 B.
pub const RESETS_REMEMBERED_MAX: usize = 64;

/// Frames in a row that move nothing: PING, SETTINGS, PRIORITY, unknown types, empty DATA, window updates that no data
/// of ours pays for. One costs about 50 ns, the whole burst 0.5 ms.
pub const IDLE_FRAMES_BURST: u32 = 10_000;

/// And so many a second come back: pings every 10 ms for ever are no flood.
pub const IDLE_FRAMES_PER_SECOND: u32 = 100;

/// A DATA frame of ours pays for so many window updates: one for the stream, one for the connection, and as much again
/// for peers that answer each half.
pub const IDLE_FRAMES_PER_DATA: u32 = 4;

/// Streams that a peer ends by a reset, or forces us to reset, in a row: many watches ended at once are no attack.
pub const RESETS_BURST: u32 = 4_096;

/// And so many a second come back.
pub const RESETS_PER_SECOND: u32 = 200;

/// A CONTINUATION that is not the last and is shorter than this counts as an idle frame.
pub const CONTINUATION_BYTES_MIN: usize = 1_024;

/// A payload from this size on goes out as the block it is; a smaller one is copied between its frames, which costs
/// less than one more piece to hand to the kernel (8 KiB: about 0.3 µs).
pub const SHARED_BYTES_MIN: usize = 8 << 10;

/// Buffers a connection keeps when it falls idle: more is given back.
pub const IDLE_BUFFER_BYTES: usize = 1_024;
