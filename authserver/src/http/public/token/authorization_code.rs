//! `grant_type=authorization_code` (OAuth 2.1, section 4.1.3).

use mcpauth_wire::client::GrantType;

use super::{TokenResponse, registered_resource, respond};
use crate::http::state::App;
use crate::oauth::client::Client;
use crate::oauth::code::CodeAttempt;
use crate::oauth::error::OAuthError;
use crate::oauth::token_request::AuthorizationCodeRequest;
use crate::store::CodeRedemption;

pub(super) async fn exchange(
    app: &App,
    client: &Client,
    request: &AuthorizationCodeRequest<'_>,
) -> Result<TokenResponse, OAuthError> {
    let resource = registered_resource(app, client, request.resource).await?;
    let now = app.clock.now();
    let may_refresh = client
        .metadata
        .grant_types
        .contains(&GrantType::RefreshToken);
    let redemption = CodeRedemption {
        hashes: &app.pepper.token_hashes(&request.code),
        attempt: CodeAttempt {
            client_id: &client.client_id,
            redirect_uri: request.redirect_uri,
            resource: resource.as_deref(),
            code_verifier: request.code_verifier,
        },
        grant_expires_at: now.plus(app.tokens.grant()),
        minter: app.minter(may_refresh),
    };
    let issued = app.store.redeem_code(&redemption, now).await??;
    respond(app, &issued)
}
