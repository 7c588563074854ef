//! `POST /register`: dynamic registration (RFC 7591).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, StatusCode, header};
use mcpauth_service::admission::{Bounds, Caller};
use mcpauth_service::clock::UnixTime;
use mcpauth_service::fair_queue::FairQueue;
use mcpauth_wire::authserver_config as config;
use mcpauth_wire::client::TokenEndpointAuthMethod;
use serde_json::json;

use super::initial_access::InitialAccess;
use crate::http::body;
use crate::http::client_auth::guesses::Guesses;
use crate::http::core::Core;
use crate::http::error::HttpError;
use crate::http::peer::Peer;
use crate::http::trace;
use crate::oauth::client::{Client, ClientOrigin};
use crate::oauth::dynamic_registration::{self, Request as Document, Rules};
use crate::oauth::error::OAuthError;
use crate::oauth::rate_limit::{Decision, RateLimit};
use crate::random;
use crate::store::{NewRegistration, Registered};

/// Maximum size of a document, in bytes. It is stored for anyone: those of clients in the field have less than 2 KiB,
/// and four keys of 4096 bits have 3 KiB.
pub(super) const MAX_BODY: usize = 8 * 1024;

/// Registrations from one address, in a minute.
const LIMIT: RateLimit = RateLimit::per_minute(60);

/// How many registrations are in progress at once, and wait for that. They are stored one after the other, and more of
/// them would only take the database's connections from other requests.
const REGISTRATIONS: Bounds = Bounds {
    waiting: 64,
    concurrent: 1,
};

/// What registration depends on.
#[derive(Debug)]
pub(super) struct DynamicRegistration {
    core: Arc<Core>,
    initial_access: Option<InitialAccess>,
    /// Private-use URI schemes that redirect URIs may have.
    redirect_schemes: Vec<String>,
    limits: config::DynamicRegistration,
    /// In turn with those of other networks.
    queue: FairQueue<IpAddr>,
}

impl DynamicRegistration {
    /// As configured.
    pub(super) fn new(
        core: Arc<Core>,
        guesses: Arc<Guesses>,
        registration: config::Registration,
    ) -> Self {
        let limits = registration.dynamic.unwrap_or_default();
        let file = limits.initial_access_token_file.clone();
        Self {
            initial_access: file.map(|file| InitialAccess::new(Arc::clone(&core), guesses, file)),
            core,
            redirect_schemes: registration.allowed_redirect_schemes,
            limits,
            queue: FairQueue::new(REGISTRATIONS),
        }
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            redirect_schemes: &self.redirect_schemes,
            grant_types: &self.limits.grant_types,
        }
    }
}

pub(super) async fn register(
    State(endpoint): State<Arc<DynamicRegistration>>,
    peer: Peer,
    request: Request,
) -> Result<Response, HttpError> {
    let core = &endpoint.core;
    if let Some(initial_access) = &endpoint.initial_access {
        initial_access.admit(request.headers(), &peer).await?;
    }
    let body = body::read(request, &()).await?;
    let document: Document = mcpauth_wire::read::json(&body)
        .map_err(|error| OAuthError::InvalidClientMetadata(error.to_string().into()))?;
    let metadata = dynamic_registration::accept(document, &endpoint.rules())?;
    let turn = endpoint.queue.turn(Caller::Unknown, peer.network()).await;
    let _turn = turn.map_err(|_| HttpError::TooManyRequests(Duration::from_secs(1)))?;
    let now = core.clock.now();
    let address = peer.network().to_string();
    let decision = core.store.hit("register", &address, LIMIT, now).await?;
    if let Decision::Refused { retry_after } = decision {
        return Err(HttpError::TooManyRequests(retry_after));
    }
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
    let registration = NewRegistration {
        client: &client,
        network: dynamic_registration::network(peer.0),
        max_clients: endpoint.limits.max_clients,
    };
    match core.store.register_client(&registration, now).await? {
        Registered::Created => {}
        Registered::Full => return Err(HttpError::RegistrationFull),
    }
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
