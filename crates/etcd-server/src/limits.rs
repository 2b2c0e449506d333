//! The server's bounds, each with its arithmetic.

use std::time::Duration;

/// The release of the API we speak. kube-apiserver reads it to know that progress requests can be relied on.
pub const ETCD_VERSION: &str = "3.6.6";

/// The release whose rules hold while nobody asked for an older one.
pub const CLUSTER_VERSION: &str = "3.6.0";

/// The form of etcd's storage that we write.
pub const STORAGE_VERSION: &str = "3.6.0";

/// Bytes on top of the request limit that gRPC takes in, so that a request just above it gets etcd's text.
pub const REQUEST_OVERHEAD_BYTES: usize = 512 << 10;

/// Bytes of one answer: what etcd's clients take.
pub const RESPONSE_BYTES_MAX: usize = i32::MAX as usize;

/// Longest wait for what an answer rests on: etcd's 5 s and two elections of 1 s.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(7);

/// The shortest lease: one and a half elections of 1 s, in whole seconds.
pub const LEASE_TTL_SECONDS_MIN: i64 = 2;

/// Events a watch takes from its cursor at a time: with values of 1 MiB, 128 MiB of shared bytes.
pub const EVENTS_PER_LOOK: usize = 128;

/// A watch answer is closed, at the end of a revision, once it holds so much.
pub const WATCH_ANSWER_BYTES: usize = 1 << 20;

/// Watches on one stream: each about 1 KiB.
pub const WATCHES_PER_STREAM_MAX: usize = 1 << 20;

/// Requests a watch stream takes in before events of others get their turn.
pub const REQUESTS_PER_TURN: usize = 64;

/// Connections one runtime serves at a time. Past it, new ones wait in the kernel's queue: 8,000 on each of two
/// cores stay below the 20,000 descriptors of a process.
pub const CONNECTIONS_MAX: usize = 8_000;

/// Connections that may wait in the kernel before they are accepted.
pub const BACKLOG_CONNECTIONS: i32 = 4_096;

/// Streams a connection: an apiserver has some hundreds, a client waits for a free one. At 4 KB each, 64 MB.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 1 << 14;

/// Streams a client may reset before we have seen them: many watches ended at once are no attack.
pub const RESETS_PENDING_MAX: usize = 4_096;

/// Bytes a stream may have in flight towards us.
pub const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes a connection may have in flight towards us.
pub const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Longest wait for a TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Longest wait for the headers of an HTTP/1.1 request.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Silence after which an HTTP/2 connection is pinged, as etcd does.
pub const PING_INTERVAL: Duration = Duration::from_secs(2 * 3600);

/// Longest wait for the answer to a ping.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long open requests may go on after shutdown began.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How often leases and history are looked after when there is nothing to do.
pub const STEP_INTERVAL: Duration = Duration::from_millis(100);

/// History entries a collection gives up in one step: well below 1 ms.
pub const STEP_ENTRIES: usize = 256;

/// Bytes of answers a connection of ours holds for a peer that gives no room for them; past it, no other
/// answer is made. One answer may go beyond it.
pub const HELD_BYTES_MAX: usize = 64 << 20;

/// Bytes of unfinished requests a connection of ours holds on the short way: 40 of the largest.
pub const PARTIAL_BYTES_MAX: usize = 64 << 20;

/// The lease of a lock or an election that names none: etcd's 60 s.
pub const SESSION_TTL_SECONDS: i64 = 60;

/// Bytes of one piece of a range that is told in pieces, unless one value is larger.
pub const RANGE_PIECE_BYTES: usize = 1 << 20;

/// Most keys looked at for one piece: of 100 bytes, about one piece full.
pub const RANGE_PIECE_KEYS_MAX: i64 = 10_000;

/// Keys looked at for the first piece, before anything is known of their size.
pub const RANGE_PIECE_KEYS_FIRST: i64 = 100;

/// Checksums and copies of the whole store being made at once: each holds 24 bytes a key (240 MB for ten million) and
/// a thread; a snapshot also a file as large as everything kept.
pub const WHOLE_READERS_MAX: usize = 4;

/// Bytes of a snapshot in one answer. A stream costs little more than its bytes at 256 KiB.
pub const SNAPSHOT_PIECE_BYTES: usize = 256 << 10;

/// Bytes of the disk that a snapshot leaves alone: 4 of the log's segments of 64 MiB. The log must not stop for a copy.
pub const SNAPSHOT_SPARE_BYTES: u64 = 256 << 20;

/// Pieces of a snapshot that wait for its reader: 1 MiB.
pub const SNAPSHOT_PIECES_WAITING_MAX: usize = 4;

/// Bytes a put is taken to cost beside key and value, as in etcd.
pub const PUT_COST_BYTES: u64 = 256;

/// Bytes a lease is taken to cost, as in etcd.
pub const LEASE_COST_BYTES: u64 = 64;

/// Passwords that wait to be looked at: at 50 ms each, the last waits for a minute on one core, and gives up before.
pub const PASSWORDS_WAITING_MAX: usize = 1024;

/// Simple tokens that are good at once: 100,000 of about 120 bytes are 12 MB.
pub const SIMPLE_TOKENS_MAX: usize = 100_000;

/// Leases whose keys are looked at before others get their turn: each takes the table's lock for about 1 µs.
pub const LEASES_PER_TURN: usize = 256;

/// Alarms that may be up at once: the member's own two, and some that were raised by hand for others.
pub const ALARMS_MAX: usize = 64;
