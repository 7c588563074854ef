//! `POST /token` (OAuth 2.1, section 3.2): a file for each grant type.

mod authorization_code;
mod client_credentials;
mod refresh_token;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use mcpauth_wire::authserver_config::Tokens;
use mcpauth_wire::client::GrantType;
use serde::Serialize;

use crate::audit::{Event, Revoked};
use crate::http::audit;
use crate::http::body::Form;
use crate::http::client_auth::ClientAuthentication;
use crate::http::core::Core;
use crate::http::error::HttpError;
use crate::http::peer::Peer;
use crate::http::trace;
use crate::issue::{Issued, Minter, id_token};
use crate::keys::signing_key::SigningKeyError;
use crate::login::Login;
use crate::metrics::Metrics;
use crate::oauth::audience;
use crate::oauth::client::{Client, ClientOrigin};
use crate::oauth::error::OAuthError;
use crate::oauth::grant::Grant;
use crate::oauth::token_request::{self, TokenRequest};
use crate::random;
use crate::signing::Signing;

/// What the endpoint depends on.
#[derive(Debug)]
pub(super) struct TokenEndpoint {
    pub(super) core: Arc<Core>,
    pub(super) clients: Arc<ClientAuthentication>,
    /// To know whether a user still exists.
    pub(super) login: Arc<Login>,
    /// Signs ID tokens.
    pub(super) signing: Arc<Signing>,
    pub(super) lifetimes: Tokens,
    /// What clients that registered themselves may use now.
    pub(super) registered_grant_types: Vec<GrantType>,
    pub(super) metrics: Arc<Metrics>,
}

impl TokenEndpoint {
    /// Whether a client may use this grant type.
    fn allows(&self, client: &Client, grant_type: GrantType) -> bool {
        let may_register = self.registered_grant_types.contains(&grant_type);
        client.metadata.grant_types.contains(&grant_type)
            && (client.origin != ClientOrigin::Dynamic || may_register)
    }

    /// Makes the tokens of a grant.
    fn minter(&self, may_refresh: bool) -> Minter<'_> {
        Minter {
            pepper: &self.core.pepper,
            random: &random::bytes,
            access: self.lifetimes.access(),
            refresh: may_refresh.then(|| self.lifetimes.refresh()),
        }
    }
}

/// A successful answer (OAuth 2.1, section 3.2.3).
#[derive(Serialize)]
struct TokenResponse {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    /// Left out where there is none: RFC 6749, section 3.3, has no empty one.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
}

pub(super) async fn token(
    State(endpoint): State<Arc<TokenEndpoint>>,
    peer: Peer,
    form: Form,
) -> Result<Response, HttpError> {
    let answer = answer(&endpoint, &peer, &form).await?;
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Json(answer)).into_response())
}

async fn answer(
    endpoint: &TokenEndpoint,
    peer: &Peer,
    form: &Form,
) -> Result<TokenResponse, HttpError> {
    let grant_type = token_request::grant_type(&form.params)?;
    trace::grant_type(grant_type.as_str());
    let clients = &endpoint.clients;
    let client = clients
        .authenticate(&form.headers, &form.params, peer.network())
        .await?;
    if !endpoint.allows(&client, grant_type) {
        let text = "the client is not registered for this grant_type, or may no longer use it";
        return Err(OAuthError::UnauthorizedClient(text.into()).into());
    }
    let (issued, event) = match TokenRequest::parse(grant_type, &form.params)? {
        TokenRequest::AuthorizationCode(request) => {
            let issued = authorization_code::exchange(endpoint, &client, &request).await?;
            (issued, Event::TokenIssued)
        }
        TokenRequest::RefreshToken(request) => {
            let (issued, kind) = refresh_token::exchange(endpoint, &client, &request).await?;
            (issued, Event::Refreshed(kind))
        }
        TokenRequest::ClientCredentials(request) => {
            let issued = client_credentials::exchange(endpoint, &client, &request).await?;
            (issued, Event::TokenIssued)
        }
    };
    note_use(endpoint, &client).await;
    let answer = respond(endpoint, &client, &issued)?;
    audit::about(|about| {
        about.grant(&issued.grant);
        about.scopes(issued.scopes.iter());
    });
    audit::record(event);
    endpoint.metrics.token_issued(grant_type.as_str());
    Ok(answer)
}

/// Notes that a self-registered client is in use, so that it is not removed when its family ends.
async fn note_use(endpoint: &TokenEndpoint, client: &Client) {
    let core = &endpoint.core;
    if client.origin == ClientOrigin::Dynamic
        && let Err(error) = core
            .store
            .touch_client(&client.client_id, core.clock.now())
            .await
    {
        // What was issued is committed: an error now would make the client present its code or token again.
        tracing::warn!(%error, "cannot note that the client is in use");
    }
}

fn respond(
    endpoint: &TokenEndpoint,
    client: &Client,
    issued: &Issued,
) -> Result<TokenResponse, OAuthError> {
    let grant = &issued.grant;
    trace::resource(&grant.resource);
    if let Some(subject) = &grant.subject {
        trace::subject(subject);
    }
    let (core, now) = (&endpoint.core, endpoint.core.clock.now());
    let id_token = id_token::is_requested(issued).then(|| {
        let registered = client.metadata.id_token_signing_algorithm();
        let key = endpoint.signing.signer(registered, now);
        let key = key.ok_or(SigningKeyError::Signing);
        let signed = key.and_then(|key| id_token::sign(&key, core.issuer.as_str(), issued, now));
        signed.map_err(|error| {
            tracing::error!(%error, "cannot sign an ID token");
            OAuthError::ServerError
        })
    });
    Ok(TokenResponse {
        access_token: issued.access.token.reveal().to_owned(),
        token_type: "Bearer",
        expires_in: issued.access.expires_at.since(now).as_secs(),
        scope: issued.scopes.to_parameter(),
        refresh_token: issued
            .refresh
            .as_ref()
            .map(|minted| minted.token.reveal().to_owned()),
        id_token: id_token.transpose()?,
    })
}

/// Ends the family of a user who is gone, or whose login has been ended.
async fn check_user(endpoint: &TokenEndpoint, grant: &Grant) -> Result<(), OAuthError> {
    let Some(subject) = &grant.subject else {
        return Ok(());
    };
    if endpoint.login.has(subject, grant.login.as_ref()).await? {
        return Ok(());
    }
    endpoint.core.store.revoke_grant(grant.id).await?;
    audit::about(|about| about.grant(grant));
    audit::record(Event::Revoked(Revoked::UserGone));
    let text = "the user no longer exists, or their password has changed; authorize again";
    Err(OAuthError::InvalidGrant(text.into()))
}

/// `resource` in its registered spelling, so that a trailing slash does not matter. One
/// that was not granted is rejected later, when it is compared with the grant.
async fn registered_resource(
    core: &Core,
    client: &Client,
    requested: Option<&str>,
) -> Result<Option<String>, OAuthError> {
    if requested.is_none() {
        return Ok(None);
    }
    let resources = core.store.resources().await?;
    let resource = audience::resource(requested, client, &resources)?;
    Ok(Some(resource.resource.clone()))
}
