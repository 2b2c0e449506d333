//! The HTTP face of the API: what a request asks for, and how an answer is laid out.
//!
//! Everything here is a pure function from bytes to bytes: paths and options, content negotiation, discovery and
//! OpenAPI documents, tables, list bodies and watch frames. It deliberately knows no sockets, no store and no
//! clock; who serves requests brings those.

pub mod continue_token;
pub mod discovery;
pub mod document;
pub mod http;
pub mod list;
pub mod negotiate;
pub mod openapi;
pub mod paths;
pub mod table;
pub mod watch_frame;
mod wire;
