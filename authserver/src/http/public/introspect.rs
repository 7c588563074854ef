//! `POST /introspect` on the public port (RFC 7662), where the configuration wants it: for resource servers outside the
//! cluster, which have a secret. ServiceAccount tokens are for the internal port.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use crate::http::basic::{self, BasicCallers};
use crate::http::body::Form;
use crate::http::client_auth::guesses::Guesses;
use crate::http::error::HttpError;
use crate::http::introspection::Introspection;
use crate::http::peer::Peer;
use crate::http::trace;

/// What the endpoint depends on.
#[derive(Debug)]
pub(super) struct PublicIntrospection {
    pub(super) callers: BasicCallers,
    pub(super) guesses: Arc<Guesses>,
    pub(super) introspection: Introspection,
}

pub(super) async fn introspect(
    State(public): State<Arc<PublicIntrospection>>,
    peer: Peer,
    form: Form,
) -> Result<Response, HttpError> {
    let presented = basic::authorization(&form.headers)
        .ok()
        .and_then(basic::parse);
    let sent = presented.ok_or(HttpError::UnknownCaller)?;
    let named = public.callers.named(sent.user());
    let guesses = named.map(|principal| public.guesses.of(principal, peer.network()));
    if let (Some(principal), Some(guesses)) = (named, &guesses) {
        trace::caller(principal);
        guesses.admit().await?;
    }
    let Some(caller) = public.callers.principal(sent.user(), sent.password()) else {
        if let Some(guesses) = &guesses {
            guesses.failed();
        }
        return Err(HttpError::UnknownCaller);
    };
    if let Some(guesses) = &guesses {
        guesses.succeeded().await?;
    }
    public.introspection.answer(&caller, &form.params).await
}
