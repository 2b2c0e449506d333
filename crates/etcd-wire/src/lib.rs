//! The etcd v3 API as bytes and words: its messages, what they mean in the vocabulary of `kv`, and its
//! error table.
//!
//! Messages are generated from `proto/` by `cargo xtask etcd-api`. Knows no sockets, no store, no
//! gRPC library: a [`RpcError`] is a code and a text.

mod error;
mod reply;
mod request;

pub use error::{Code, RpcError};
pub use reply::{Identity, event, key_value, range_response, txn_response};
pub use request::{delete_op, key_range, put_op, range_op, txn, watch_range};

/// Keys and events.
#[allow(clippy::all)]
pub mod mvccpb {
    include!("generated/mvccpb.rs");
}

/// The words of access rules.
#[allow(clippy::all)]
pub mod authpb {
    include!("generated/authpb.rs");
}

/// Requests and answers.
#[allow(clippy::all)]
pub mod etcdserverpb {
    include!("generated/etcdserverpb.rs");
}

/// The lock service's messages.
#[allow(clippy::all)]
pub mod v3lockpb {
    include!("generated/v3lockpb.rs");
}

/// The election service's messages.
#[allow(clippy::all)]
pub mod v3electionpb {
    include!("generated/v3electionpb.rs");
}

/// The gRPC health checking protocol.
#[allow(clippy::all)]
pub mod health {
    include!("generated/grpc.health.v1.rs");
}

/// The gRPC reflection protocol.
#[allow(clippy::all)]
pub mod reflection {
    include!("generated/grpc.reflection.v1.rs");
}

/// The whole API as data: an encoded `FileDescriptorSet` of all services and messages.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/api.binpb");
