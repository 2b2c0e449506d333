//! The error table: etcd's codes and texts, which clients compare to the letter.

use std::borrow::Cow;

/// A gRPC status code, of those that etcd uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// What etcd's own table has no code for.
    Unknown = 2,
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
    /// Nobody knows who asks.
    Unauthenticated = 16,
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
    /// Access rules cannot be turned on without a user `root`.
    ROOT_USER_NOT_EXIST: FailedPrecondition, "etcdserver: root user does not exist";
    /// Nor when that user has not the role `root`.
    ROOT_ROLE_NOT_EXIST: FailedPrecondition, "etcdserver: root user does not have root role";
    /// It is there already.
    USER_ALREADY_EXIST: FailedPrecondition, "etcdserver: user name already exists";
    /// A user without a name, and a request without a user.
    USER_EMPTY: InvalidArgument, "etcdserver: user name is empty";
    /// No such user.
    USER_NOT_FOUND: FailedPrecondition, "etcdserver: user name not found";
    /// It is there already.
    ROLE_ALREADY_EXIST: FailedPrecondition, "etcdserver: role name already exists";
    /// No such role.
    ROLE_NOT_FOUND: FailedPrecondition, "etcdserver: role name not found";
    /// A role without a name.
    ROLE_EMPTY: InvalidArgument, "etcdserver: role name is empty";
    /// No such user, or another password.
    AUTH_FAILED: InvalidArgument, "etcdserver: authentication failed, invalid user ID or password";
    /// A grant of nothing.
    PERMISSION_NOT_GIVEN: InvalidArgument, "etcdserver: permission not given";
    /// Not for this user.
    PERMISSION_DENIED: PermissionDenied, "etcdserver: permission denied";
    /// The user has not the role that is to be taken away.
    ROLE_NOT_GRANTED: FailedPrecondition, "etcdserver: role is not granted to the user";
    /// The role has not the permission that is to be taken away.
    PERMISSION_NOT_GRANTED: FailedPrecondition, "etcdserver: permission is not granted to the role";
    /// A token that is none, or no longer.
    INVALID_AUTH_TOKEN: Unauthenticated, "etcdserver: invalid auth token";
    /// A change that would leave nobody in charge, or a permission for a range that is none.
    INVALID_AUTH_MGMT: InvalidArgument, "etcdserver: invalid auth management";
    /// The rules have changed since the token was given.
    AUTH_OLD_REVISION: InvalidArgument, "etcdserver: revision of auth store is old";
    /// A password for a user that has none, or a hash that is none.
    NO_PASSWORD_USER: Unknown, "auth: authentication failed, password was given for no password user";
    /// More than bcrypt takes.
    PASSWORD_TOO_LONG: Unknown, "bcrypt: password length exceeds 72 bytes";
    /// Tokens can be checked here, and are made elsewhere.
    VERIFY_ONLY: Unknown, "auth: token signing attempted with verify-only key";
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
