//! The plain vocabulary of the Kubernetes API: status errors, field paths, kinds, selectors, quantities, times,
//! names and accessors on the object tree.
//!
//! It deliberately knows no kind's schema, no storage, no transport and no clock: every function is a pure function
//! of its arguments, and every text a client may match is the one upstream prints.

pub mod event;
pub mod field;
pub mod fields;
pub mod gvk;
pub mod intstr;
pub mod labels;
pub mod names;
pub mod object;
pub mod quantity;
pub mod quote;
pub mod status;
pub mod time;

pub use event::{EventType, Involved};
pub use field::{FieldError, FieldErrorKind, FieldPath};
pub use fields::{FieldOperator, FieldRequirement, FieldSelector};
pub use gvk::{
    GroupKind, GroupResource, GroupVersionKind, GroupVersionResource, api_version,
    parse_api_version,
};
pub use labels::LabelSelector;
pub use quantity::Quantity;
pub use status::{ApiError, Cause, Details, Reason};
pub use value::Value;
