//! `POST /introspect` on the internal port (RFC 7662).

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use tracing::field::Empty;

use super::Principal;
use crate::http::body::Form;
use crate::http::error::HttpError;
use crate::http::introspection::{Introspection, Response};

/// Its span is at debug level, because proxies send a request for every token that is not in their cache.
#[tracing::instrument(
    name = "introspect",
    level = "debug",
    skip_all,
    fields(%caller, client = Empty, subject = Empty, resource = Empty, outcome = Empty)
)]
pub(super) async fn introspect(
    State(introspection): State<Arc<Introspection>>,
    Extension(Principal(caller)): Extension<Principal>,
    form: Form,
) -> Result<Response, HttpError> {
    introspection.answer(&caller, &form.params).await
}
