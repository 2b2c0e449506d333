//! The error table: etcd's codes and texts, which clients compare to the letter.

use std::borrow::Cow;

/// A gRPC status code, of those that etcd uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The request means nothing.
    InvalidArgument = 3,
    /// It does not exist.
    NotFound = 5,
    /// Not for this caller.
    PermissionDenied = 7,
    /// A budget or a rate is spent.
    ResourceExhausted = 8,
    /// Not in this state.
    FailedPrecondition = 9,
    /// A revision that cannot be had.
    OutOfRange = 11,
    /// Not here.
    Unimplemented = 12,
    /// Try again later, perhaps elsewhere.
    Unavailable = 14,
    /// What is stored is in doubt.
    DataLoss = 15,
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// The kind.
    pub code: Code,
    /// The text.
    pub text: Cow<'static, str>,
}

macro_rules! table {
    ($($(#[$doc:meta])* $name:ident: $code:ident, $text:literal;)*) => {
        impl RpcError {
            $($(#[$doc])* pub const $name: RpcError =
                RpcError { code: Code::$code, text: Cow::Borrowed($text) };)*
        }
    };
}

table! {
    /// A request without a key.
    EMPTY_KEY: InvalidArgument, "etcdserver: key is not provided";
    /// `ignore_value` or `ignore_lease` on a key that does not exist; an operation that is none.
    KEY_NOT_FOUND: InvalidArgument, "etcdserver: key not found";
    /// `ignore_value` with a value.
    VALUE_PROVIDED: InvalidArgument, "etcdserver: value is provided";
    /// `ignore_lease` with a lease.
    LEASE_PROVIDED: InvalidArgument, "etcdserver: lease is provided";
    /// A transaction of too many operations.
    TOO_MANY_OPS: InvalidArgument, "etcdserver: too many operations in txn request";
    /// A key written twice.
    DUPLICATE_KEY: InvalidArgument, "etcdserver: duplicate key given in txn request";
    /// A sort order or target that does not exist.
    INVALID_SORT_OPTION: InvalidArgument, "etcdserver: invalid sort option";
    /// A request over the limit.
    REQUEST_TOO_LARGE: InvalidArgument, "etcdserver: request is too large";
    /// History is gone.
    COMPACTED: OutOfRange, "etcdserver: mvcc: required revision has been compacted";
    /// Not reached yet.
    FUTURE_REVISION: OutOfRange, "etcdserver: mvcc: required revision is a future revision";
    /// The budget is spent.
    NO_SPACE: ResourceExhausted, "etcdserver: mvcc: database space exceeded";
    /// The alarm CORRUPT is up.
    CORRUPT: DataLoss, "etcdserver: corrupt cluster";
    /// No such lease.
    LEASE_NOT_FOUND: NotFound, "etcdserver: requested lease not found";
    /// It is there already.
    LEASE_EXISTS: FailedPrecondition, "etcdserver: lease already exists";
    /// Too long a life.
    LEASE_TTL_TOO_LARGE: OutOfRange, "etcdserver: too large lease TTL";
    /// More than can be taken at once.
    TOO_MANY_REQUESTS: ResourceExhausted, "etcdserver: too many requests";
    /// The answer would take too long.
    TIMEOUT: Unavailable, "etcdserver: request timed out";
    /// The store does not take writes any more.
    STOPPED: Unavailable, "etcdserver: server stopped";
    /// Access rules are off.
    AUTH_NOT_ENABLED: FailedPrecondition, "etcdserver: authentication is not enabled";
    /// A member nobody knows.
    MEMBER_NOT_FOUND: NotFound, "etcdserver: member not found";
    /// A leader that would be none.
    BAD_LEADER_TRANSFEREE: FailedPrecondition, "etcdserver: bad leader transferee";
}

impl RpcError {
    /// Something that is not here, and why.
    #[must_use]
    pub fn unimplemented(text: &'static str) -> RpcError {
        RpcError {
            code: Code::Unimplemented,
            text: Cow::Borrowed(text),
        }
    }
}
