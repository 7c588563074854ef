//! From what the store decided to the tokens that go out.

pub mod id_token;
