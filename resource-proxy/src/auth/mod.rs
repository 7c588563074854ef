//! Who calls, and what the caller may do.

pub mod authorize;
pub mod bearer;
pub mod identity;
pub mod judge;
pub mod source;
pub mod verify;
