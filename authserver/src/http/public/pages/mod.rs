//! The pages that users see, and where their forms go.

pub mod consent;
pub mod form;
pub mod login;
pub mod templates;
