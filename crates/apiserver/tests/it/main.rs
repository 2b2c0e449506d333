//! The API server as its clients see it.
//!
//! Most bodies run three times: over the in-process transport, and over HTTPS on loopback ports with either codec of
//! HTTP/2 ([`both`]), because a component must not be able to tell them apart. What only one of them has is tested beside it.

mod admin_access;
mod alike;
mod alike_both_ways;
mod deletes;
mod durability;
mod formats;
mod fuzz;
mod lists;
mod namespaces;
mod narrow;
mod own_codec;
mod plane;
mod pods;
mod services;
mod speak;
mod told;
mod updates;
mod verbs;
mod watches;
mod wire;

/// Makes three tests of one body.
macro_rules! both {
    ($($name:ident),* $(,)?) => {
        mod in_process {
            $(#[test] fn $name() { crate::plane::in_process(super::$name); })*
        }
        mod over_https {
            $(#[test] fn $name() { crate::plane::over_https(super::$name); })*
        }
        mod over_hyper {
            $(#[test] fn $name() { crate::plane::over_hyper(super::$name); })*
        }
    };
}
pub(crate) use both;
