//! The controllers, one per kind.

pub mod auth_server;
mod database;
mod environment;
mod internal_tls;
mod lookup;
pub mod oauth_client;
mod policy;
pub mod protected_server;
mod registration;
mod rollout;
mod secrets;
mod upgrade;
mod workload;
