//! `POST /revoke` (RFC 7009).

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;

use crate::audit::{Event, Revoked};
use crate::http::audit;
use crate::http::body::Form;
use crate::http::client_auth::ClientAuthentication;
use crate::http::core::Core;
use crate::http::error::HttpError;
use crate::http::peer::Peer;
use crate::keys::pepper::KeyedHash;
use crate::oauth::error::OAuthError;
use crate::oauth::token::{Token, TokenKind};
use crate::store::{Extent, StoreError};

/// 200 for everything but a client that is not authenticated: nobody learns whose token it was, or whether it
/// existed. `token_type_hint` is not needed, the token's prefix says what it is.
pub(super) async fn revoke(
    State(core): State<Arc<Core>>,
    State(clients): State<Arc<ClientAuthentication>>,
    peer: Peer,
    form: Form,
) -> Result<StatusCode, HttpError> {
    let client = clients
        .authenticate(&form.headers, &form.params, peer.network())
        .await?;
    let Some(token) = form.params.get("token") else {
        return Err(OAuthError::InvalidRequest("token is missing".into()).into());
    };
    let Some(token) = Token::parse(token) else {
        audit::record(Event::Revoked(Revoked::Nothing));
        return Ok(StatusCode::OK);
    };
    let hashes = token.hashes(&core.pepper);
    let (store, client_id) = (&core.store, &client.client_id);
    let revoked = match token.kind() {
        TokenKind::Access => {
            let known = note_access_token(&core, &hashes, client_id).await?;
            store.revoke_access_token(&hashes, client_id).await?;
            known.then_some(Revoked::AccessToken)
        }
        TokenKind::Refresh => {
            let known = note_grant(&core, &hashes, client_id).await?;
            store.revoke_refresh_token(&hashes, client_id).await?;
            known.then_some(Revoked::Grant)
        }
        // A client ends its registration by deleting it.
        TokenKind::Code | TokenKind::Registration => None,
    };
    audit::record(Event::Revoked(revoked.unwrap_or(Revoked::Nothing)));
    Ok(StatusCode::OK)
}

/// Notes for the audit whose token it is; whether there is one that this client can revoke.
async fn note_access_token(
    core: &Core,
    hashes: &[KeyedHash],
    client_id: &str,
) -> Result<bool, StoreError> {
    let token = core
        .store
        .introspect(hashes, Extent::Token, core.clock.now())
        .await?;
    let Some(token) = token.filter(|token| token.client_id == client_id) else {
        return Ok(false);
    };
    audit::about(|about| {
        about.granted(&token.grant_id.to_string(), token.scopes.iter());
        about.resource(&token.resource);
        if let Some(subject) = &token.subject {
            about.subject(subject);
        }
    });
    Ok(true)
}

/// The same for a refresh token, whose grant ends with it.
async fn note_grant(
    core: &Core,
    hashes: &[KeyedHash],
    client_id: &str,
) -> Result<bool, StoreError> {
    let grant = core.store.grant_of(hashes, core.clock.now()).await?;
    let grant = grant.filter(|grant| grant.client_id == client_id);
    if let Some(grant) = &grant {
        audit::about(|about| about.grant(grant));
    }
    Ok(grant.is_some())
}
