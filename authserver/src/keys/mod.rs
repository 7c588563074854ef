//! Keys, and what is hashed, sealed or signed with them.

pub mod digest;
pub mod jws;
pub mod pepper;
pub mod ring;
pub mod rotation;
pub mod signed;
pub mod signing_key;
