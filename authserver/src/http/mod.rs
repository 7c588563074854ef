//! The HTTP side: the ports' routes, and what their handlers share.
//!
//! [`app`] assembles the server. Each port has its state, and a handler extracts only the parts that it names:
//! it cannot access the others.

pub mod app;
mod audit;
mod basic;
mod bearer;
pub mod body;
pub mod client_auth;
pub mod cookies;
pub mod core;
pub mod error;
pub mod internal;
mod introspection;
mod layers;
pub mod peer;
pub mod public;
pub mod redirect;
mod route;
mod segment;
pub mod serve;
mod trace;
pub mod visit;
