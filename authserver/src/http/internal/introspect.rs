//! `POST /introspect` on the internal port (RFC 7662).

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::{IntoResponse as _, Response};
use http::Method;
use tracing::field::Empty;

use super::{INTROSPECT, InternalState};
use crate::http::body::form;
use crate::http::error::HttpError;
use crate::http::introspection;
use crate::http::layers::in_time;
use crate::oauth::params::Params;

/// The largest form: a token and a hint.
const MAX_FORM: usize = 16 * 1024;

/// By far the most frequent request: proxies send one for every token that is not in their cache. The layers of the other
/// routes cost more than this answer does, so it is authenticated, limited and counted here.
pub(super) async fn introspect(
    State(state): State<InternalState>,
    mut request: Request,
) -> Response {
    DefaultBodyLimit::max(MAX_FORM).apply(&mut request);
    let answered = async |request| match answer(&state, request).await {
        Ok(answer) => answer.into_response(),
        Err(error) => error.into_response(),
    };
    in_time(&state.0.told, INTROSPECT, request, answered).await
}

async fn answer(
    state: &InternalState,
    request: Request,
) -> Result<introspection::Response, HttpError> {
    let caller = state.0.authentication.principal(request.headers()).await?;
    if request.method() != Method::POST {
        return Err(HttpError::MethodNotAllowed);
    }
    let params = Params::parse(&form(request, &()).await?)?;
    describe(state, &caller, &params).await
}

#[tracing::instrument(
    name = "introspect",
    level = "debug",
    skip_all,
    fields(%caller, client = Empty, subject = Empty, resource = Empty, outcome = Empty)
)]
async fn describe(
    state: &InternalState,
    caller: &str,
    params: &Params,
) -> Result<introspection::Response, HttpError> {
    state.0.introspection.answer(caller, params).await
}
