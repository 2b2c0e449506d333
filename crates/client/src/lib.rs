//! The API client of our own components: scheduler, controllers, fleet, tests.
//!
//! A [`Client`] speaks verbs on resources with object trees. Under it lies [`rest::http::Service`], which has
//! implementations that a component cannot tell apart: the API server itself, in process, and
//! [`https::HttpsTransport`], over HTTP/2 and TLS to any Kubernetes API server; [`wire::WireTransport`] is the same on our
//! own codec, for those who ask very much, and [`pool::Pool`] makes several connections one.
//!
//! [`post`] is for services that are no API server.
//!
//! Knows nothing of the store, of admission, or of what any kind means.

pub mod events;
mod heard;
pub mod https;
pub mod keyed;
mod kubeconfig;
mod mirror;
mod only;
mod options;
pub mod pool;
pub mod post;
mod prints;
mod reflector;
mod verbs;
mod watch;
pub mod wire;

pub use kubeconfig::{Kubeconfig, KubeconfigError};
pub use mirror::{Delta, Mirror};
pub use only::Only;
pub use options::{DeleteOptions, ListOptions, PatchType, Propagation, WatchOptions};
pub use reflector::{Change, Reflector, object_key};
pub use verbs::{Client, List};
pub use watch::{WatchEvent, WatchStream};

use meta::ApiError;

/// Why a call gave no object.
#[derive(Debug, Clone)]
pub enum ClientError {
    /// The API server answered with an error `Status`.
    Api(Box<ApiError>),
    /// No usable answer came: the connection failed, or the answer could not be read. Worth a retry.
    Transport(String),
}

impl ClientError {
    /// The HTTP code of an API error, 0 for a transport error.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            ClientError::Api(error) => error.code,
            ClientError::Transport(_) => 0,
        }
    }

    /// The object is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.reason() == Some(&meta::Reason::NotFound)
    }

    /// The object was there already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.reason() == Some(&meta::Reason::AlreadyExists)
    }

    /// The object changed since it was read.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        self.reason() == Some(&meta::Reason::Conflict)
    }

    /// The asked revision is no longer kept: list again.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.code() == 410
    }

    fn reason(&self) -> Option<&meta::Reason> {
        match self {
            ClientError::Api(error) => Some(&error.reason),
            ClientError::Transport(_) => None,
        }
    }
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ClientError::Api(error) => f.write_str(&error.message),
            ClientError::Transport(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<ApiError> for ClientError {
    fn from(error: ApiError) -> ClientError {
        ClientError::Api(Box::new(error))
    }
}
