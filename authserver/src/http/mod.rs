//! The HTTP side: the ports' routes, and what their handlers share.
//!
//! [`app`] puts the parts together. Each port has its state, and a handler takes the parts of it that it names:
//! what it does not name it cannot reach.

pub mod app;
mod basic;
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
pub mod serve;
mod trace;
