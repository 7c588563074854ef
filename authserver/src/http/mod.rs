//! The HTTP side: the ports' routes, and what their handlers share.

pub mod body;
pub mod client_auth;
pub mod cookies;
pub mod error;
pub mod internal;
pub mod layers;
pub mod peer;
pub mod public;
pub mod redirect;
pub mod serve;
pub mod state;
