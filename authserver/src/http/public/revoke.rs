//! `POST /revoke` (RFC 7009).

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;

use crate::http::body::Form;
use crate::http::client_auth::ClientAuthentication;
use crate::http::core::Core;
use crate::http::error::HttpError;
use crate::http::peer::Peer;
use crate::oauth::error::OAuthError;
use crate::oauth::token::{Token, TokenKind};

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
        return Ok(StatusCode::OK);
    };
    let hashes = token.hashes(&core.pepper);
    let (store, client_id) = (&core.store, &client.client_id);
    match token.kind() {
        TokenKind::Access => store.revoke_access_token(&hashes, client_id).await?,
        TokenKind::Refresh => store.revoke_refresh_token(&hashes, client_id).await?,
        // A client ends its registration by deleting it.
        TokenKind::Code | TokenKind::Registration => (),
    }
    Ok(StatusCode::OK)
}
