//! `POST /introspect` on the public port (RFC 7662), where the configuration wants it: for resource servers outside the
//! cluster, which have a secret. ServiceAccount tokens are for the internal port.

use std::sync::Arc;

use axum::extract::State;
use mcpauth_wire::principal;

use crate::http::basic::{self, BasicCallers};
use crate::http::body::Form;
use crate::http::client_auth::guesses::Guesses;
use crate::http::error::HttpError;
use crate::http::introspection::{Introspection, Response};
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
    let (id, secret) = presented.ok_or(HttpError::UnknownCaller)?;
    let guesses = public.callers.has(&id).then(|| {
        let id = principal::credential(&id);
        public.guesses.of(&id, peer.network())
    });
    if let Some(guesses) = &guesses {
        trace::caller(&principal::credential(&id));
        guesses.admit().await?;
    }
    let Some(caller) = public.callers.principal(&id, &secret) else {
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
