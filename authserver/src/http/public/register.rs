//! Dynamic registration: `POST /register` (RFC 7591), and by `/register/CLIENT_ID` a client manages what it has
//! registered (RFC 7592).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use mcpauth_service::admission::{Bounds, Caller};
use mcpauth_service::fair_queue::FairQueue;
use mcpauth_wire::Secret;
use mcpauth_wire::authserver_config as config;
use mcpauth_wire::client::is_id;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::initial_access::InitialAccess;
use crate::audit::Event;
use crate::http::audit;
use crate::http::client_auth::guesses::Guesses;
use crate::http::core::Core;
use crate::http::error::HttpError;
use crate::http::peer::Peer;
use crate::http::segment::Segment;
use crate::http::trace;
use crate::http::{bearer, body};
use crate::keys::pepper::KeyedHash;
use crate::oauth::client::{Client, ClientOrigin};
use crate::oauth::dynamic_registration::{self, Request as Document, Rules, Update};
use crate::oauth::error::OAuthError;
use crate::oauth::rate_limit::{Decision, RateLimit};
use crate::oauth::token::{Token, TokenKind};
use crate::random::{self, RandomError};
use crate::signing::Signing;
use crate::store::{NewRegistration, Registered};

/// Maximum size of a document, in bytes. It is stored for anyone: those of clients in the field have less than 2 KiB,
/// and four keys of 4096 bits have 3 KiB.
pub(super) const MAX_BODY: usize = 8 * 1024;

/// What a client needs to manage its registration.
const MANAGED: &str = "send the registration_access_token from the response to the registration as Bearer; it ends with the client";

/// Registrations from one address, and updates of one client, in a minute.
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
    /// The keys that sign ID tokens.
    signing: Arc<Signing>,
    /// In turn with those of other networks.
    queue: FairQueue<IpAddr>,
    /// Compared with when a client is unknown, so that the response takes equally long.
    decoy: KeyedHash,
}

impl DynamicRegistration {
    /// As configured.
    pub(super) fn new(
        core: Arc<Core>,
        guesses: Arc<Guesses>,
        signing: Arc<Signing>,
        registration: config::Registration,
    ) -> Self {
        let limits = registration.dynamic.unwrap_or_default();
        let file = limits.initial_access_token_file.clone();
        Self {
            initial_access: file.map(|file| InitialAccess::new(Arc::clone(&core), guesses, file)),
            decoy: core.pepper.hash_token("registration", ""),
            core,
            redirect_schemes: registration.allowed_redirect_schemes,
            limits,
            signing,
            queue: FairQueue::new(REGISTRATIONS),
        }
    }

    /// How many registrations wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            redirect_schemes: &self.redirect_schemes,
            grant_types: &self.limits.grant_types,
            algorithms: self.signing.algorithms(),
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
    let document: Document = parse(&body::read(request, &()).await?)?;
    let metadata = dynamic_registration::accept(document, &endpoint.rules())?;
    let turn = endpoint.queue.turn(Caller::Unknown, peer.network()).await;
    let _turn = turn.map_err(|_| HttpError::TooManyRequests(Duration::from_secs(1)))?;
    limit(core, &peer.network().to_string()).await?;
    let method = metadata.token_endpoint_auth_method;
    let secret = method.has_secret().then(new_secret).transpose()?;
    let token = Token::generate(TokenKind::Registration, random::bytes()?);
    let now = core.clock.now();
    let client = Client {
        client_id: format!("dyn-{}", URL_SAFE_NO_PAD.encode(random::bytes::<16>()?)),
        origin: ClientOrigin::Dynamic,
        secret_hash: secret.as_deref().map(|s| core.pepper.hash_client_secret(s)),
        registration_token: Some(token.hash(&core.pepper)),
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
    audit::record(Event::Registered);
    let mut body = information(core, &client, secret.as_deref(), &token);
    body["client_id_issued_at"] = now.as_seconds().into();
    Ok(respond(StatusCode::CREATED, body))
}

/// What a client has registered. Of its secret only a hash is stored, so it is not in the response.
pub(super) async fn read(
    State(endpoint): State<Arc<DynamicRegistration>>,
    Segment(client_id): Segment,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let (client, token) = endpoint.authenticate(&client_id, &headers).await?;
    let body = information(&endpoint.core, &client, None, &token);
    Ok(respond(StatusCode::OK, body))
}

/// Replaces what a client has registered, by the rules of registration. The registration access token stays: a response
/// that is lost would lock the client out.
pub(super) async fn update(
    State(endpoint): State<Arc<DynamicRegistration>>,
    Segment(client_id): Segment,
    request: Request,
) -> Result<Response, HttpError> {
    let core = &endpoint.core;
    let (mut client, token) = endpoint.authenticate(&client_id, request.headers()).await?;
    limit(core, &client_id).await?;
    let body = body::read(request, &()).await?;
    let update: Update = parse(&body)?;
    update.check(&client_id)?;
    let sent = update.client_secret.as_ref().map(Secret::reveal);
    if let Some(secret) = sent {
        let stored = client.secret_hash.as_ref();
        if !stored.is_some_and(|stored| core.pepper.verify_client_secret(secret, stored)) {
            let text =
                "client_secret must be the one that the client has; leave it out if it has none";
            return Err(OAuthError::InvalidClientMetadata(text.into()).into());
        }
    }
    client.metadata = dynamic_registration::accept(parse(&body)?, &endpoint.rules())?;
    let method = client.metadata.token_endpoint_auth_method;
    let new = match (method.has_secret(), client.secret_hash) {
        (true, None) => Some(new_secret()?),
        (true, Some(_)) | (false, _) => None,
    };
    if let Some(secret) = new.as_deref().or(sent) {
        client.secret_hash = Some(core.pepper.hash_client_secret(secret));
    }
    client.secret_hash = client.secret_hash.filter(|_| method.has_secret());
    client.registration_token = Some(token.hash(&core.pepper));
    if !core.store.update_registration(&client).await? {
        return Err(HttpError::WrongToken(MANAGED));
    }
    audit::record(Event::RegistrationUpdated);
    let shown = new.as_deref().or(sent).filter(|_| method.has_secret());
    let body = information(core, &client, shown, &token);
    Ok(respond(StatusCode::OK, body))
}

/// Ends a registration: the client, and all that users have granted to it.
pub(super) async fn delete(
    State(endpoint): State<Arc<DynamicRegistration>>,
    Segment(client_id): Segment,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let (client, _) = endpoint.authenticate(&client_id, &headers).await?;
    endpoint.core.store.delete_client(&client.client_id).await?;
    audit::record(Event::RegistrationDeleted);
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl DynamicRegistration {
    /// The client with this id and its registration access token, which the request carries. The same error for a client
    /// that is unknown, or declared by an administrator.
    async fn authenticate(
        &self,
        client_id: &str,
        headers: &HeaderMap,
    ) -> Result<(Client, Token), HttpError> {
        let presented = bearer::token(headers).ok_or(HttpError::TokenMissing(MANAGED))?;
        let token = Token::parse(presented).filter(|one| one.kind() == TokenKind::Registration);
        let token = token.ok_or(HttpError::WrongToken(MANAGED))?;
        let client = match is_id(client_id) {
            true => self.core.store.client(client_id).await?,
            false => None,
        };
        let client = client.filter(|client| client.origin == ClientOrigin::Dynamic);
        let stored = client.as_ref().and_then(|one| one.registration_token);
        let expected = stored.unwrap_or(self.decoy);
        let hashes = token.hashes(&self.core.pepper);
        match client.filter(|_| hashes.contains(&expected)) {
            Some(client) => {
                trace::client(client_id);
                Ok((client, token))
            }
            None => Err(HttpError::WrongToken(MANAGED)),
        }
    }
}

/// Counts a request that writes.
async fn limit(core: &Core, subject: &str) -> Result<(), HttpError> {
    let now = core.clock.now();
    match core.store.hit("register", subject, LIMIT, now).await? {
        Decision::Allowed => Ok(()),
        Decision::Refused { retry_after } => Err(HttpError::TooManyRequests(retry_after)),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, OAuthError> {
    let parsed = mcpauth_wire::read::json(body);
    parsed.map_err(|error| OAuthError::InvalidClientMetadata(error.to_string().into()))
}

fn new_secret() -> Result<String, RandomError> {
    Ok(URL_SAFE_NO_PAD.encode(random::bytes::<32>()?))
}

/// What was registered, which may be less than what was asked for (RFC 7591, section 3.2.1).
fn information(core: &Core, client: &Client, secret: Option<&str>, token: &Token) -> Value {
    let metadata = &client.metadata;
    let mut body = json!({
        "client_id": client.client_id,
        "registration_client_uri": core.issuer.url(&format!("/register/{}", client.client_id)),
        "registration_access_token": token.reveal(),
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
    body
}

fn respond(status: StatusCode, body: Value) -> Response {
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, no_store, Json(body)).into_response()
}
