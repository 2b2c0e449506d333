//! The verbs on kinds: what becomes of an object when it is created, updated, deleted, bound, scaled or evicted.
//!
//! Everything here is a pure function of the stored object, the object sent and the moment. It knows no store, no clock,
//! no transport: shells look things up before and write the outcome after.

pub mod admission;
mod bind;
mod bind_bytes;
mod context;
mod create;
mod delete;
mod evict;
mod findings;
mod kinds;
mod metadata;
mod narrow;
mod narrow_status;
mod object;
mod pod;
mod renew;
mod scale;
mod select;
mod strategy;
mod tree;
mod update;

pub use bind::{bind, plain_binding};
pub use bind_bytes::{BindingTo, bound};
pub use context::Context;
pub use create::{default_object, prepare_create, prepare_metadata};
pub use delete::{DeleteOptions, Deletion, Propagation, prepare_delete};
pub use evict::{Eviction, prepare_eviction};
pub use narrow::{Narrow, Part, narrow, node_of};
pub use renew::{LeaseAt, Renewal, renewal};
pub use scale::{scale_of, with_scale};
pub use select::{SelectableField, field_value, selectable_fields};
pub use strategy::allows_create_on_update;
pub use update::{Update, prepare_update};
