//! `POST /introspect` on the public port (RFC 7662), where the configuration wants it: for resource servers outside the
//! cluster, which have a secret. ServiceAccount tokens are for the internal port.

use std::sync::Arc;

use axum::extract::State;

use crate::http::basic::{self, BasicCallers};
use crate::http::body::Form;
use crate::http::client_auth::ClientAuthentication;
use crate::http::error::HttpError;
use crate::http::introspection::{Introspection, Response};
use crate::http::peer::Peer;
use crate::http::trace;

/// What the endpoint depends on.
#[derive(Debug)]
pub(super) struct PublicIntrospection {
    pub(super) callers: BasicCallers,
    pub(super) introspection: Introspection,
}

/// Failures count on the address, as at the token endpoint. A right secret is let through all the same: nobody can lock
/// a resource server out by guessing at its side.
pub(super) async fn introspect(
    State(public): State<Arc<PublicIntrospection>>,
    State(clients): State<Arc<ClientAuthentication>>,
    peer: Peer,
    form: Form,
) -> Result<Response, HttpError> {
    let presented = basic::authorization(&form.headers)
        .ok()
        .and_then(basic::parse);
    let caller = presented.and_then(|(id, secret)| public.callers.principal(&id, &secret));
    let Some(caller) = caller else {
        let refusal = HttpError::UnknownCaller;
        return Err(clients.count_failure(peer.network(), refusal).await);
    };
    trace::caller(&caller);
    public.introspection.answer(&caller, &form.params).await
}
