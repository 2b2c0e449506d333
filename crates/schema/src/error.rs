//! What can go wrong between bytes and objects. Knows no HTTP: shells turn these into a Status.

use thiserror::Error;

/// Input that is not an object of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Not JSON at all.
    #[error("{0}")]
    Syntax(String),
    /// Not YAML at all, or more of it than is allowed.
    #[error("error converting YAML to JSON: {0}")]
    Yaml(String),
    /// A value of another type than the field has, in Go's words.
    #[error("{0}")]
    Type(String),
    /// A string that its type cannot read: a quantity, a time.
    #[error("{0}")]
    Value(String),
    /// Not a protobuf message of the type.
    #[error("proto: {0}")]
    Protobuf(String),
    /// Nested deeper than [`crate::MAX_DEPTH`].
    #[error("exceeded max depth")]
    TooDeep,
}

impl DecodeError {
    pub(crate) fn protobuf(text: &str) -> DecodeError {
        DecodeError::Protobuf(text.to_owned())
    }
}

/// A tree that does not have the shape of its type, so that it cannot be written as protobuf.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{path}: {problem}")]
pub struct EncodeError {
    /// Where in the object.
    pub path: String,
    /// What is wrong there.
    pub problem: String,
}

/// A patch that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatchError {
    /// The patch itself is malformed: a 400.
    #[error("{0}")]
    Malformed(String),
    /// Nested too deep.
    #[error("exceeded max depth")]
    TooDeep,
}

/// Why an object cannot be shown in another version.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConvertError {
    /// The two versions have different shapes and no converter.
    #[error("no conversion between {from} and {to}")]
    Unsupported {
        /// The version it has.
        from: String,
        /// The version wanted.
        to: String,
    },
}
