//! `POST /revoke` (RFC 7009).

use axum::extract::State;
use http::StatusCode;

use crate::http::body::Form;
use crate::http::client_auth::authenticate;
use crate::http::error::HttpError;
use crate::http::peer::Peer;
use crate::http::state::Shared;
use crate::oauth::error::OAuthError;
use crate::oauth::token::{Token, TokenKind};

/// 200 for everything but a client that is not authenticated: whose token it was, and whether there
/// was one, is nobody's business. `token_type_hint` is not needed, the token says what it is.
pub(super) async fn revoke(
    State(app): State<Shared>,
    peer: Peer,
    form: Form,
) -> Result<StatusCode, HttpError> {
    let client = authenticate(&app, &form.headers, &form.params, peer.network()).await?;
    let Some(token) = form.params.get("token") else {
        return Err(OAuthError::InvalidRequest("token is missing".into()).into());
    };
    let Some(token) = Token::parse(token) else {
        return Ok(StatusCode::OK);
    };
    let hashes = app.pepper.token_hashes(&token);
    let (store, client_id) = (&app.store, &client.client_id);
    match token.kind() {
        TokenKind::Access => store.revoke_access_token(&hashes, client_id).await?,
        TokenKind::Refresh => store.revoke_refresh_token(&hashes, client_id).await?,
        TokenKind::Code => (),
    }
    Ok(StatusCode::OK)
}
