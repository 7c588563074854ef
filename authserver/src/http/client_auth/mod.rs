//! Client authentication (OAuth 2.1, section 2.4; RFC 7523): who sends this request?

pub mod credentials;

use std::net::IpAddr;
use std::num::NonZeroU32;

use http::HeaderMap;
use mcpauth_wire::client::{TokenEndpointAuthMethod, is_id};

use crate::http::error::HttpError;
use crate::http::state::App;
use crate::oauth::client::Client;
use crate::oauth::client_assertion;
use crate::oauth::error::OAuthError;
use crate::oauth::params::Params;
use crate::oauth::rate_limit::{Decision, RateLimit};
use credentials::Credentials;

/// Authenticates the client of a request to the token or revocation endpoint, by exactly the method
/// that it registered, and counts the request against the client's limit.
///
/// Failures count on the address. A client is counted only once it is authenticated, a public one
/// together with the address: nobody can use up the limit of somebody else's client.
///
/// # Errors
/// `invalid_client`, `invalid_request` for contradictory credentials, 429 over a limit, 503 when the
/// store is away.
pub async fn authenticate(
    app: &App,
    headers: &HeaderMap,
    params: &Params,
    peer: IpAddr,
) -> Result<Client, HttpError> {
    let presented = credentials::extract(headers, params)?;
    let client = match is_id(presented.client_id()) {
        true => app.store.client(presented.client_id()).await?,
        false => None,
    };
    let verified = verify(app, &presented, client.as_ref()).await?;
    let (Some(client), true) = (client, verified) else {
        let refusal = if presented.is_basic() {
            HttpError::InvalidBasicCredentials
        } else {
            OAuthError::InvalidClient.into()
        };
        return Err(count_failure(app, peer, refusal).await);
    };
    let limit = per_minute(app.rate_limit.client_requests_per_minute);
    let subject = match presented {
        Credentials::Public { client_id } => format!("{client_id} {peer}"),
        _ => client.client_id.clone(),
    };
    match app
        .store
        .hit("client", &subject, limit, app.clock.now())
        .await?
    {
        Decision::Allowed => Ok(client),
        Decision::Refused { retry_after } => Err(HttpError::TooManyRequests(retry_after)),
    }
}

/// Counts a failed request on its address; over the limit the answer becomes 429. Requests that succeed
/// are let through all the same: behind a load balancer one broken client shares its address with
/// everybody.
pub async fn count_failure(app: &App, peer: IpAddr, error: HttpError) -> HttpError {
    let limit = per_minute(app.rate_limit.address_failures_per_minute);
    let now = app.clock.now();
    match app
        .store
        .hit("address", &peer.to_string(), limit, now)
        .await
    {
        Ok(Decision::Allowed) => error,
        Ok(Decision::Refused { retry_after }) => HttpError::TooManyRequests(retry_after),
        Err(error) => error.into(),
    }
}

/// Whether the credentials are this client's. Does the same work for an unknown client.
async fn verify(
    app: &App,
    presented: &Credentials,
    client: Option<&Client>,
) -> Result<bool, HttpError> {
    let registered = client.map(|client| client.metadata.token_endpoint_auth_method);
    let by_registered_method = registered == Some(presented.method());
    match presented {
        Credentials::Public { .. } => Ok(by_registered_method),
        Credentials::Basic { secret, .. } | Credentials::Post { secret, .. } => {
            let stored = client.and_then(|client| client.secret_hash);
            let matches = app
                .pepper
                .verify_client_secret(secret, &stored.unwrap_or(app.decoy_secret));
            Ok(matches && stored.is_some() && by_registered_method)
        }
        Credentials::Assertion { client_id, jwt } => {
            let (Some(client), true) = (client, by_registered_method) else {
                return Ok(false);
            };
            let now = app.clock.now();
            let jwks = client.metadata.jwks.as_ref();
            let claims =
                match client_assertion::verify(jwt, jwks, client_id, app.issuer.as_str(), now) {
                    Ok(claims) => claims,
                    Err(error) => {
                        tracing::info!(client_id, %error, "a client assertion was refused");
                        return Ok(false);
                    }
                };
            let until = mcpauth_service::clock::UnixTime::from_seconds(claims.exp);
            Ok(app
                .store
                .remember_assertion(client_id, &claims.jti, until, now)
                .await?)
        }
    }
}

impl Credentials {
    /// The registered method that these are of.
    fn method(&self) -> TokenEndpointAuthMethod {
        match self {
            Self::Public { .. } => TokenEndpointAuthMethod::None,
            Self::Basic { .. } => TokenEndpointAuthMethod::ClientSecretBasic,
            Self::Post { .. } => TokenEndpointAuthMethod::ClientSecretPost,
            Self::Assertion { .. } => TokenEndpointAuthMethod::PrivateKeyJwt,
        }
    }
}

/// A limit of the configuration, which is at least one.
fn per_minute(count: u32) -> RateLimit {
    RateLimit::per_minute(NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN))
}
