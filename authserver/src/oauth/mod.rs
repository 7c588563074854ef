//! The rules of OAuth, without HTTP and without a store.

pub mod admission;
pub mod audience;
pub mod authorization;
pub mod client;
pub mod client_assertion;
pub mod code;
pub mod dynamic_registration;
pub mod error;
pub mod grant;
pub mod id_token_hint;
pub mod params;
pub mod pkce;
pub mod rate_limit;
pub mod redirect_uri;
pub mod refresh;
pub mod resource;
pub mod token;
pub mod token_request;
