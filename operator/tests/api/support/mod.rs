//! What the tests against a real API server share.

pub mod authserver;
pub mod faults;
pub mod proxies;
pub mod world;
