//! What metrics, traces and the audit call a request's route.

use axum::extract::MatchedPath;

/// The pattern of a request's route.
#[derive(Clone, Debug)]
pub(super) enum Route {
    /// One that is looked up without a router, or none.
    Known(&'static str),
    /// The router's.
    Matched(MatchedPath),
}

impl Route {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Known(route) => route,
            Self::Matched(path) => path.as_str(),
        }
    }
}
