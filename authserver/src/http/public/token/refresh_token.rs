//! `grant_type=refresh_token` (OAuth 2.1, section 4.3).

use mcpauth_wire::Scopes;

use super::{TokenEndpoint, registered_resource};
use crate::http::core::Core;
use crate::issue::Issued;
use crate::oauth::audience;
use crate::oauth::client::Client;
use crate::oauth::error::OAuthError;
use crate::oauth::grant::{Grant, RefreshAttempt};
use crate::oauth::token_request::RefreshTokenRequest;
use crate::store::Refresh;

pub(super) async fn exchange(
    endpoint: &TokenEndpoint,
    client: &Client,
    request: &RefreshTokenRequest<'_>,
) -> Result<Issued, OAuthError> {
    let core = &endpoint.core;
    let resource = registered_resource(core, client, request.resource).await?;
    let hashes = request.refresh_token.hashes(&core.pepper);
    let mut scopes = request.scopes.clone();
    let now = core.clock.now();
    if let Some(grant) = core.store.grant_of_refresh_token(&hashes, now).await?
        && grant.client_id == client.client_id
    {
        check_user(endpoint, &grant).await?;
        scopes = Some(still_allowed(core, &grant, client, scopes).await?);
    }
    let request = Refresh {
        hashes: &hashes,
        attempt: RefreshAttempt {
            client_id: &client.client_id,
            resource: resource.as_deref(),
            scopes: scopes.as_ref(),
            grace: endpoint.lifetimes.refresh_grace(),
        },
        minter: endpoint.minter(true),
    };
    Ok(core.store.refresh(&request, now).await??)
}

/// Ends the family of a user who is gone.
async fn check_user(endpoint: &TokenEndpoint, grant: &Grant) -> Result<(), OAuthError> {
    let Some(subject) = &grant.subject else {
        return Ok(());
    };
    if endpoint.login.exists(subject).await? {
        return Ok(());
    }
    endpoint.core.store.revoke_grant(grant.id).await?;
    let text = "the user no longer exists; sign in as another user";
    Err(OAuthError::InvalidGrant(text.into()))
}

/// The scopes to refresh with.
async fn still_allowed(
    core: &Core,
    grant: &Grant,
    client: &Client,
    requested: Option<Scopes>,
) -> Result<Scopes, OAuthError> {
    let resources = core.store.resources().await?;
    let resource = audience::resource(Some(&grant.resource), client, &resources);
    let resource = resource.map_err(|_| {
        let text = "the client is no longer allowed to use this resource; ask the resource's administrator to allow it";
        OAuthError::InvalidGrant(text.into())
    })?;
    audience::refreshed(requested.as_ref(), &grant.scopes, client, resource)
}
