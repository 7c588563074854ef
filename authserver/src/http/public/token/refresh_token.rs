//! `grant_type=refresh_token` (OAuth 2.1, section 4.3).

use mcpauth_wire::Scopes;

use super::{TokenEndpoint, check_user, registered_resource};
use crate::audit::Event;
use crate::http::audit;
use crate::http::core::Core;
use crate::issue::Issued;
use crate::metrics::RefreshOutcome;
use crate::oauth::audience;
use crate::oauth::client::Client;
use crate::oauth::error::OAuthError;
use crate::oauth::grant::{Grant, Refusal};
use crate::oauth::refresh::{RefreshAttempt, RefreshKind};
use crate::oauth::token_request::RefreshTokenRequest;
use crate::store::Refresh;

pub(super) async fn exchange(
    endpoint: &TokenEndpoint,
    client: &Client,
    request: &RefreshTokenRequest<'_>,
) -> Result<(Issued, RefreshKind), OAuthError> {
    let core = &endpoint.core;
    let resource = registered_resource(core, client, request.resource).await?;
    let hashes = request.refresh_token.hashes(&core.pepper);
    let mut scopes = request.scopes.clone();
    let now = core.clock.now();
    let grant = core.store.grant_of(&hashes, now).await?;
    let grant = grant.filter(|grant| grant.client_id == client.client_id);
    if let Some(grant) = &grant {
        check_user(endpoint, grant).await?;
        scopes = Some(still_allowed(core, grant, client, scopes).await?);
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
    let refreshed = core.store.refresh(&request, now).await?;
    let outcome = match &refreshed {
        Ok(refreshed) => match refreshed.kind {
            RefreshKind::Rotation => RefreshOutcome::Rotation,
            RefreshKind::Sibling => RefreshOutcome::Sibling,
            RefreshKind::LostResponse => RefreshOutcome::LostResponse,
        },
        Err(Refusal::Reused) => RefreshOutcome::Reuse,
        Err(_) => RefreshOutcome::Refused,
    };
    endpoint.metrics.refresh(outcome);
    if let Some(grant) = &grant {
        audit::about(|about| about.grant(grant));
    }
    if outcome == RefreshOutcome::Reuse {
        audit::record(Event::RefreshReused);
    }
    let refreshed = refreshed?;
    Ok((refreshed.issued, refreshed.kind))
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
