//! The registry as its callers see it: objects in, objects or errors out.

mod cluster;
mod config;
mod deletion;
mod devices;
mod every_resource;
mod fuzz;
mod help;
mod metadata;
mod pods;
mod services;
mod workloads;
