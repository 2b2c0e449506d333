//! The API server: serves every built-in resource over one engine, on the embedded store.
//!
//! ```text
//!   listen ─► api ─► body ─► admission ─► registry (decides) ─► store (compare-and-write) ─► visible ─► encode
//!             └───► select ─► read / watching ◄──────────────── store (lists, cursors)
//! ```
//!
//! [`Api`] is a [`rest::http::Service`]: the listener calls it for clients outside, the in-process client calls it
//! for our own components. Knows no kind by itself beyond a few that admission and allocation are about; what a kind
//! may contain is the schema's and the registry's business.

mod admin_access;
mod admission;
mod alike;
mod allocate;
mod api;
mod body;
mod bootstrap;
mod components;
mod deleting;
mod encode;
mod event_lease;
mod facets;
mod files;
mod footprint;
mod frames;
pub mod listen;
mod listing;
pub mod metrics;
mod narrow;
mod patch;
pub mod pki;
mod probes;
mod read;
mod renew;
mod reviews;
mod seats;
mod select;
mod state;
mod stopping;
mod subresource;
mod watching;
mod write;

pub use api::Api;
pub use bootstrap::BootstrapError;
pub use files::write_atomically;
pub use probes::version_info;
pub use state::now_micros;
