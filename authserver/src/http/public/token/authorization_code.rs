//! `grant_type=authorization_code` (OAuth 2.1, section 4.1.3).

use mcpauth_wire::client::GrantType;

use super::{TokenEndpoint, check_user, registered_resource};
use crate::audit::Event;
use crate::http::audit;
use crate::issue::Issued;
use crate::oauth::client::Client;
use crate::oauth::code::CodeAttempt;
use crate::oauth::error::OAuthError;
use crate::oauth::grant::Refusal;
use crate::oauth::token_request::AuthorizationCodeRequest;
use crate::store::CodeRedemption;

pub(super) async fn exchange(
    endpoint: &TokenEndpoint,
    client: &Client,
    request: &AuthorizationCodeRequest<'_>,
) -> Result<Issued, OAuthError> {
    let core = &endpoint.core;
    let resource = registered_resource(core, client, request.resource).await?;
    let now = core.clock.now();
    let may_refresh = endpoint.allows(client, GrantType::RefreshToken);
    let hashes = request.code.hashes(&core.pepper);
    let grant = core.store.grant_of(&hashes, now).await?;
    let grant = grant.filter(|grant| grant.client_id == client.client_id);
    if let Some(grant) = &grant {
        check_user(endpoint, grant).await?;
        audit::about(|about| about.grant(grant));
    }
    let redemption = CodeRedemption {
        hashes: &hashes,
        attempt: CodeAttempt {
            client_id: &client.client_id,
            redirect_uri: request.redirect_uri,
            resource: resource.as_deref(),
            code_verifier: request.code_verifier,
        },
        grant_expires_at: now.plus(endpoint.lifetimes.grant()),
        minter: endpoint.minter(may_refresh),
    };
    let redeemed = core.store.redeem_code(&redemption, now).await?;
    if matches!(redeemed, Err(Refusal::Reused)) {
        audit::record(Event::CodeReused);
    }
    Ok(redeemed?)
}
