//! The log on disk: checksummed records in segments, snapshots, and the thread that writes them.
//!
//! Knows files and the store's log records. Knows no requests, and no wall clock. Bytes are
//! described in `FORMAT.md`.
//!
//! ```text
//!   store's log queue ─drain─► frame ─write─► segment ─fdatasync─► set_durable ─► answers go out
//!        └─ everything that arrived meanwhile is the next frame (group commit)
//!   snapshot: rotate, write pages of the present beside the running log, rename, delete what is older
//! ```
//!
//! What recovery makes of a damaged byte:
//!
//! | where | verdict |
//! |---|---|
//! | after the last whole frame, and no later frame says it had been synced | torn: cut off, go on |
//! | before a point that a later frame says had been synced | damaged: an error, nothing is touched |
//! | in a segment that is not the last, or in a snapshot | damaged: an error, nothing is touched |

mod codec;
mod disk;
mod error;
mod faulty;
mod files;
mod frame;
mod medium;
mod recover;
mod seed;
mod snapshot;
mod timings;
mod writer;

pub use disk::{Disk, Options};
pub use error::WalError;
pub use faulty::FaultyFiles;
pub use medium::{Medium, MediumFile, SystemFiles};
pub use recover::Recovered;
pub use seed::Seed;
pub use timings::{Durations, Timings};
