//! Who calls, and what it may do.

pub mod bearer;
pub mod introspection;
pub mod policy;
pub mod verify;
