//! `grant_type=client_credentials` (OAuth 2.1, section 4.2).

use super::{TokenResponse, respond};
use crate::http::state::App;
use crate::oauth::audience;
use crate::oauth::client::Client;
use crate::oauth::error::OAuthError;
use crate::oauth::grant::NewGrant;
use crate::oauth::token_request::ClientCredentialsRequest;
use crate::store::StoreError;

pub(super) async fn exchange(
    app: &App,
    client: &Client,
    request: &ClientCredentialsRequest<'_>,
) -> Result<TokenResponse, OAuthError> {
    if app.login.knows(&client.client_id).await? {
        // The token's `sub` is the client's id: nobody could tell the two apart (RFC 9700, section 4.15).
        let text = "the client_id is the name of a user; register the client under another one";
        return Err(OAuthError::UnauthorizedClient(text.into()));
    }
    let resources = app.store.resources().await?;
    let resource = audience::resource(request.resource, client, &resources)?;
    let scopes = audience::scopes(request.scope, client, resource, &resources)?;
    let now = app.clock.now();
    let grant = NewGrant {
        id: app.new_grant_id()?,
        subject: None,
        client_id: client.client_id.clone(),
        resource: resource.resource.clone(),
        // There is no user to know and no refresh token.
        scopes: scopes.intersection(&resource.scope_names()),
    };
    let minter = app.minter(false);
    match app.store.issue_access_token(grant, minter, now).await {
        Ok(issued) => respond(app, &issued),
        Err(StoreError::Conflict(text)) => Err(OAuthError::InvalidTarget(text.into())),
        Err(error) => Err(error.into()),
    }
}
