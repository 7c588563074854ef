//! `grant_type=refresh_token` (OAuth 2.1, section 4.3).

use mcpauth_wire::Scopes;

use super::{TokenResponse, registered_resource, respond};
use crate::http::state::App;
use crate::oauth::audience;
use crate::oauth::client::Client;
use crate::oauth::error::OAuthError;
use crate::oauth::grant::{Grant, RefreshAttempt};
use crate::oauth::token_request::RefreshTokenRequest;
use crate::store::Refresh;

pub(super) async fn exchange(
    app: &App,
    client: &Client,
    request: &RefreshTokenRequest<'_>,
) -> Result<TokenResponse, OAuthError> {
    let resource = registered_resource(app, client, request.resource).await?;
    let hashes = app.pepper.token_hashes(&request.refresh_token);
    let mut scopes = request.scopes.clone();
    let now = app.clock.now();
    if let Some(grant) = app.store.grant_of_refresh_token(&hashes, now).await?
        && grant.client_id == client.client_id
    {
        check_user(app, &grant).await?;
        scopes = Some(still_allowed(app, &grant, client, scopes).await?);
    }
    let request = Refresh {
        hashes: &hashes,
        attempt: RefreshAttempt {
            client_id: &client.client_id,
            resource: resource.as_deref(),
            scopes: scopes.as_ref(),
            grace: app.tokens.refresh_grace(),
        },
        minter: app.minter(true),
    };
    let issued = app.store.refresh(&request, now).await??;
    respond(app, &issued)
}

/// Ends the family of a user who is gone.
async fn check_user(app: &App, grant: &Grant) -> Result<(), OAuthError> {
    let Some(subject) = &grant.subject else {
        return Ok(());
    };
    if app.login.knows(subject).await? {
        return Ok(());
    }
    app.store.revoke_grant(grant.id).await?;
    let text = "the user no longer exists";
    Err(OAuthError::InvalidGrant(text.into()))
}

/// The scopes to refresh with: what the client may have may be less than when the user consented.
async fn still_allowed(
    app: &App,
    grant: &Grant,
    client: &Client,
    requested: Option<Scopes>,
) -> Result<Scopes, OAuthError> {
    let resources = app.store.resources().await?;
    let resource = audience::resource(Some(&grant.resource), client, &resources);
    let resource = resource.map_err(|_| {
        let text = "the client may no longer use this resource";
        OAuthError::InvalidGrant(text.into())
    })?;
    let scopes = requested.unwrap_or_else(|| grant.scopes.clone());
    if !scopes.is_subset(&grant.scopes) {
        // Refused with the grant locked.
        return Ok(scopes);
    }
    audience::allowed(&scopes, client, resource)
}
