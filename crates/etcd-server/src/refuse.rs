//! From "no" in the store's words to "no" in etcd's.

use etcd_wire::{Code, RpcError};
use store::{ReadError, StoreError};
use tonic::Status;

/// As gRPC says it.
pub fn status(error: RpcError) -> Status {
    let code = match error.code {
        Code::Unknown => tonic::Code::Unknown,
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::NotFound => tonic::Code::NotFound,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::OutOfRange => tonic::Code::OutOfRange,
        Code::Unimplemented => tonic::Code::Unimplemented,
        Code::DataLoss => tonic::Code::DataLoss,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
    };
    Status::new(code, error.text)
}

/// A read that is impossible.
pub fn read_error(error: ReadError) -> RpcError {
    match error {
        ReadError::Compacted(_) => RpcError::COMPACTED,
        ReadError::Future { .. } => RpcError::FUTURE_REVISION,
    }
}

/// A change that is impossible.
pub fn store_error(error: StoreError) -> RpcError {
    use kv::TxnError;
    match error {
        StoreError::Txn(TxnError::DuplicateKey) => RpcError::DUPLICATE_KEY,
        StoreError::Txn(TxnError::TooDeep) => RpcError::TOO_MANY_OPS,
        StoreError::Txn(TxnError::EmptyKey) => RpcError::EMPTY_KEY,
        StoreError::Read(error) => read_error(error),
        StoreError::KeyNotFound => RpcError::KEY_NOT_FOUND,
        StoreError::KeyTooLong { .. }
        | StoreError::ValueTooLong { .. }
        | StoreError::TooManyTags { .. } => RpcError::REQUEST_TOO_LARGE,
        StoreError::DiskFull | StoreError::BudgetSpent { .. } | StoreError::SettingsFull { .. } => {
            RpcError::NO_SPACE
        }
        StoreError::LeaseNotFound(_) => RpcError::LEASE_NOT_FOUND,
        StoreError::LeaseExists(_) => RpcError::LEASE_EXISTS,
        StoreError::LeaseTooLong { .. } => RpcError::LEASE_TTL_TOO_LARGE,
        StoreError::TooManyWatchers { .. }
        | StoreError::TooManyLeases { .. }
        | StoreError::LogBehind => RpcError::TOO_MANY_REQUESTS,
        StoreError::LogStopped(_) => RpcError::STOPPED,
    }
}
