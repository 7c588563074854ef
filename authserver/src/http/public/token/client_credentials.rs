//! `grant_type=client_credentials` (OAuth 2.1, section 4.2).

use super::TokenEndpoint;
use crate::issue::Issued;
use crate::oauth::audience;
use crate::oauth::client::Client;
use crate::oauth::error::OAuthError;
use crate::oauth::grant::{GrantId, NewGrant};
use crate::oauth::token_request::ClientCredentialsRequest;
use crate::random;
use crate::store::StoreError;

pub(super) async fn exchange(
    endpoint: &TokenEndpoint,
    client: &Client,
    request: &ClientCredentialsRequest<'_>,
) -> Result<Issued, OAuthError> {
    let core = &endpoint.core;
    if endpoint.login.exists(&client.client_id).await? {
        // The token's `sub` is the client's id: a resource could not tell the two apart (RFC 9700, section 4.15).
        let text =
            "the client_id is also the name of a user; register the client under another client_id";
        return Err(OAuthError::UnauthorizedClient(text.into()));
    }
    let resources = core.store.resources().await?;
    let resource = audience::resource(request.resource, client, &resources)?;
    let scopes = audience::scopes(request.scope, client, resource)?;
    let now = core.clock.now();
    let grant = NewGrant {
        id: GrantId::from_bytes(random::bytes()?),
        subject: None,
        login: None,
        authenticated_at: None,
        client_id: client.client_id.clone(),
        resource: resource.resource.clone(),
        // `openid` and `offline_access` need a user.
        scopes: scopes.intersection(&resource.scope_names()),
    };
    let minter = endpoint.minter(false);
    match core.store.issue_access_token(grant, minter, now).await {
        Ok(issued) => Ok(issued),
        Err(StoreError::Conflict(text)) => Err(OAuthError::InvalidTarget(text.into())),
        Err(error) => Err(error.into()),
    }
}
