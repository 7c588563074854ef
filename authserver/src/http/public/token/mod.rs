//! `POST /token` (OAuth 2.1, section 3.2): a file for each grant type.

mod authorization_code;
mod client_credentials;
mod refresh_token;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Serialize;

use crate::http::body::Form;
use crate::http::client_auth::{authenticate, count_failure};
use crate::http::error::HttpError;
use crate::http::peer::Peer;
use crate::http::state::{App, Shared};
use crate::issue::{Issued, id_token};
use crate::oauth::audience;
use crate::oauth::client::Client;
use crate::oauth::error::OAuthError;
use crate::oauth::token_request::{self, TokenRequest};

/// A successful answer (OAuth 2.1, section 3.2.3).
#[derive(Serialize)]
struct TokenResponse {
    access_token: String,
    token_type: &'static str,
    expires_in: u64,
    scope: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
}

pub(super) async fn token(
    State(app): State<Shared>,
    peer: Peer,
    form: Result<Form, HttpError>,
) -> Result<Response, HttpError> {
    let answer = match form {
        Ok(form) => answer(&app, &peer, &form).await,
        Err(error) => Err(error),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            tracing::info!(peer = %peer.0, %error, "a token request was refused");
            return Err(match error {
                // Guessing codes and refresh tokens counts like guessing secrets.
                HttpError::OAuth(OAuthError::InvalidGrant(_)) => {
                    count_failure(&app, peer.network(), error).await
                }
                other => other,
            });
        }
    };
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Json(answer)).into_response())
}

async fn answer(app: &App, peer: &Peer, form: &Form) -> Result<TokenResponse, HttpError> {
    let grant_type = token_request::grant_type(&form.params)?;
    let client = authenticate(app, &form.headers, &form.params, peer.network()).await?;
    if !client.metadata.grant_types.contains(&grant_type) {
        let text = "the client is not registered for this grant_type";
        return Err(OAuthError::UnauthorizedClient(text.into()).into());
    }
    let answer = match TokenRequest::parse(grant_type, &form.params)? {
        TokenRequest::AuthorizationCode(request) => {
            authorization_code::exchange(app, &client, &request).await
        }
        TokenRequest::RefreshToken(request) => {
            refresh_token::exchange(app, &client, &request).await
        }
        TokenRequest::ClientCredentials(request) => {
            client_credentials::exchange(app, &client, &request).await
        }
    }?;
    app.metrics.token_issued(grant_type.as_str());
    Ok(answer)
}

fn respond(app: &App, issued: &Issued) -> Result<TokenResponse, OAuthError> {
    let now = app.clock.now();
    let id_token = issued.scopes.contains("openid").then(|| {
        let signed = id_token::sign(&app.signing_key, app.issuer.as_str(), issued, now);
        signed.map_err(|error| {
            tracing::error!(%error, "an ID token could not be signed");
            OAuthError::ServerError
        })
    });
    Ok(TokenResponse {
        access_token: issued.access.token.reveal().to_owned(),
        token_type: "Bearer",
        expires_in: issued.access.expires_at.since(now).as_secs(),
        scope: issued.scopes.to_string(),
        refresh_token: issued
            .refresh
            .as_ref()
            .map(|minted| minted.token.reveal().to_owned()),
        id_token: id_token.transpose()?,
    })
}

/// `resource` in the form in which it is registered, so that a slash more or less does not matter. One
/// that was not granted is found out later, against the grant.
async fn registered_resource(
    app: &App,
    client: &Client,
    requested: Option<&str>,
) -> Result<Option<String>, OAuthError> {
    if requested.is_none() {
        return Ok(None);
    }
    let resources = app.store.resources().await?;
    let resource = audience::resource(requested, client, &resources)?;
    Ok(Some(resource.resource.clone()))
}
