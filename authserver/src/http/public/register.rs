//! `POST /register`: dynamic registration (RFC 7591).

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, StatusCode, header};
use mcpauth_service::clock::UnixTime;
use mcpauth_wire::client::TokenEndpointAuthMethod;
use serde_json::json;

use crate::http::body;
use crate::http::core::Core;
use crate::http::error::HttpError;
use crate::http::peer::Peer;
use crate::http::trace;
use crate::oauth::client::{Client, ClientOrigin};
use crate::oauth::dynamic_registration::{self, Request as Registration};
use crate::oauth::error::OAuthError;
use crate::oauth::rate_limit::{Decision, RateLimit};
use crate::random;
use crate::signing::Signing;

/// Registrations from one address, in a minute.
const LIMIT: RateLimit = RateLimit::per_minute(60);

/// What registration depends on.
#[derive(Debug)]
pub(super) struct DynamicRegistration {
    pub(super) core: Arc<Core>,
    /// Private-use URI schemes that redirect URIs may have.
    pub(super) redirect_schemes: Vec<String>,
    /// The keys that sign ID tokens.
    pub(super) signing: Arc<Signing>,
}

pub(super) async fn register(
    State(endpoint): State<Arc<DynamicRegistration>>,
    peer: Peer,
    request: Request,
) -> Result<Response, HttpError> {
    let core = &endpoint.core;
    let now = core.clock.now();
    let address = peer.network().to_string();
    let decision = core.store.hit("register", &address, LIMIT, now).await?;
    if let Decision::Refused { retry_after } = decision {
        return Err(HttpError::TooManyRequests(retry_after));
    }
    let body = body::read(request, &()).await?;
    let registration: Registration = mcpauth_wire::read::json(&body)
        .map_err(|error| OAuthError::InvalidClientMetadata(error.to_string().into()))?;
    let algorithms = endpoint.signing.algorithms();
    let metadata =
        dynamic_registration::accept(registration, &endpoint.redirect_schemes, algorithms)?;
    let secret = match metadata.token_endpoint_auth_method {
        TokenEndpointAuthMethod::None | TokenEndpointAuthMethod::PrivateKeyJwt => None,
        TokenEndpointAuthMethod::ClientSecretBasic | TokenEndpointAuthMethod::ClientSecretPost => {
            Some(URL_SAFE_NO_PAD.encode(random::bytes::<32>()?))
        }
    };
    let client = Client {
        client_id: format!("dyn-{}", URL_SAFE_NO_PAD.encode(random::bytes::<16>()?)),
        origin: ClientOrigin::Dynamic,
        secret_hash: secret.as_deref().map(|s| core.pepper.hash_client_secret(s)),
        metadata,
    };
    core.store.upsert_client(&client, now).await?;
    trace::client(&client.client_id);
    Ok(created(&client, secret.as_deref(), now))
}

/// What was registered, which may be less than what was asked for (RFC 7591, section 3.2.1).
fn created(client: &Client, secret: Option<&str>, now: UnixTime) -> Response {
    let metadata = &client.metadata;
    let mut body = json!({
        "client_id": client.client_id,
        "client_id_issued_at": now.as_seconds(),
        "redirect_uris": metadata.redirect_uris,
        "grant_types": metadata.grant_types,
        "response_types": ["code"],
        "token_endpoint_auth_method": metadata.token_endpoint_auth_method,
    });
    let optional = [
        (
            "client_name",
            Some(metadata.client_name.as_str()).filter(|name| !name.is_empty()),
        ),
        ("client_uri", metadata.client_uri.as_deref()),
        ("logo_uri", metadata.logo_uri.as_deref()),
        ("client_secret", secret),
        (
            "id_token_signed_response_alg",
            metadata.id_token_signed_response_alg.as_deref(),
        ),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            body[name] = value.into();
        }
    }
    if secret.is_some() {
        body["client_secret_expires_at"] = 0.into();
    }
    if let Some(jwks) = &metadata.jwks {
        body["jwks"] = jwks.clone();
    }
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (StatusCode::CREATED, no_store, Json(body)).into_response()
}
