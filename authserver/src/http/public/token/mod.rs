//! `POST /token` (OAuth 2.1, section 3.2).

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use serde::Serialize;

use crate::http::body::Form;
use crate::http::client_auth::{authenticate, count_failure};
use crate::http::error::OAuthError;
use crate::http::peer::Peer;
use crate::http::state::App;
use crate::http::state::Shared;
use crate::issue::{Issued, id_token};
use crate::keys::pepper::KeyedHash;
use crate::oauth::audience;
use crate::oauth::client::{Client, GrantType};
use crate::oauth::code::CodeAttempt;
use crate::oauth::grant::{Grant, NewGrant, RefreshAttempt, Refusal};
use crate::oauth::scope::Scopes;
use crate::oauth::token::{Token, TokenKind};
use crate::store::{CodeRedemption, Refresh, StoreError};

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
    form: Result<Form, OAuthError>,
) -> Result<Response, OAuthError> {
    let answer = match form {
        Ok(form) => answer(&app, &peer, &form).await,
        Err(error) => Err(error),
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            tracing::info!(peer = %peer.0, %error, "a token request was refused");
            // Guessing codes and refresh tokens counts like guessing secrets.
            return Err(match error.code() {
                "invalid_grant" => count_failure(&app, peer.network(), error).await,
                _ => error,
            });
        }
    };
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Json(answer)).into_response())
}

async fn answer(app: &App, peer: &Peer, form: &Form) -> Result<TokenResponse, OAuthError> {
    let grant_type = match form.params.get("grant_type") {
        Some("authorization_code") => GrantType::AuthorizationCode,
        Some("refresh_token") => GrantType::RefreshToken,
        Some("client_credentials") => GrantType::ClientCredentials,
        Some(_) => {
            let text = "grant_type must be authorization_code, refresh_token or client_credentials";
            return Err(OAuthError::bad("unsupported_grant_type", text));
        }
        None => return Err(OAuthError::invalid_request("grant_type is missing")),
    };
    let client = authenticate(app, &form.headers, &form.params, peer.network()).await?;
    if !client.metadata.grant_types.contains(&grant_type) {
        let text = "the client is not registered for this grant_type";
        return Err(OAuthError::bad("unauthorized_client", text));
    }
    match grant_type {
        GrantType::AuthorizationCode => redeem_code(app, form, &client).await,
        GrantType::RefreshToken => refresh(app, form, &client).await,
        GrantType::ClientCredentials => client_credentials(app, form, &client).await,
    }
}

async fn redeem_code(app: &App, form: &Form, client: &Client) -> Result<TokenResponse, OAuthError> {
    let hashes = presented(app, form, "code", TokenKind::Code)?;
    let code_verifier = required(form, "code_verifier")?;
    let resource = canonical_resource(app, form, client).await?;
    let now = app.clock.now();
    let may_refresh = client
        .metadata
        .grant_types
        .contains(&GrantType::RefreshToken);
    let redemption = CodeRedemption {
        hashes: &hashes,
        attempt: CodeAttempt {
            client_id: &client.client_id,
            redirect_uri: form.params.get("redirect_uri"),
            resource: resource.as_deref(),
            code_verifier,
        },
        grant_expires_at: now.plus(app.tokens.grant()),
        minter: app.minter(may_refresh),
    };
    let issued = app.store.redeem_code(&redemption, now).await?;
    respond(app, "authorization_code", &issued.map_err(refused)?)
}

async fn refresh(app: &App, form: &Form, client: &Client) -> Result<TokenResponse, OAuthError> {
    let hashes = presented(app, form, "refresh_token", TokenKind::Refresh)?;
    let scopes = form.params.get("scope").map(Scopes::parse).transpose();
    let mut scopes = scopes.map_err(|error| OAuthError::bad("invalid_scope", error.to_string()))?;
    let resource = canonical_resource(app, form, client).await?;
    let now = app.clock.now();
    if let Some(grant) = app.store.grant_of_refresh_token(&hashes, now).await?
        && grant.client_id == client.client_id
    {
        check_user(app, &grant).await?;
        scopes = Some(still_allowed(app, &grant, client, scopes).await?);
    }
    let request = Refresh {
        hashes: &hashes,
        attempt: RefreshAttempt {
            client_id: &client.client_id,
            resource: resource.as_deref(),
            scopes: scopes.as_ref(),
            grace: app.tokens.refresh_grace(),
        },
        minter: app.minter(true),
    };
    let issued = app.store.refresh(&request, now).await?.map_err(refused)?;
    respond(app, "refresh_token", &issued)
}

/// Ends the family of a user who is gone.
async fn check_user(app: &App, grant: &Grant) -> Result<(), OAuthError> {
    let Some(subject) = &grant.subject else {
        return Ok(());
    };
    if app.login.knows(subject).await? {
        return Ok(());
    }
    app.store.revoke_grant(grant.id).await?;
    let text = "the user does not exist any more";
    Err(OAuthError::bad("invalid_grant", text))
}

/// The scopes to refresh with: what the client may have may be less than when the user consented.
async fn still_allowed(
    app: &App,
    grant: &Grant,
    client: &Client,
    requested: Option<Scopes>,
) -> Result<Scopes, OAuthError> {
    let resources = app.store.resources().await?;
    let resource = audience::resource(Some(&grant.resource), client, &resources);
    let resource = resource.map_err(|_| {
        let text = "the client may not use this resource any more";
        OAuthError::bad("invalid_grant", text)
    })?;
    let scopes = requested.unwrap_or_else(|| grant.scopes.clone());
    if !scopes.is_subset(&grant.scopes) {
        // Refused with the grant locked.
        return Ok(scopes);
    }
    audience::allowed(&scopes, client, resource)
}

async fn client_credentials(
    app: &App,
    form: &Form,
    client: &Client,
) -> Result<TokenResponse, OAuthError> {
    if app.login.knows(&client.client_id).await? {
        // The token's `sub` is the client's id: nobody could tell the two apart (RFC 9700, section 4.15).
        let text = "the client_id is the name of a user; register the client under another one";
        return Err(OAuthError::bad("unauthorized_client", text));
    }
    let resources = app.store.resources().await?;
    let resource = audience::resource(form.params.get("resource"), client, &resources)?;
    let scopes = audience::scopes(form.params.get("scope"), client, resource, &resources)?;
    let now = app.clock.now();
    let grant = NewGrant {
        id: app.new_grant_id()?,
        subject: None,
        client_id: client.client_id.clone(),
        resource: resource.resource.clone(),
        // There is no user to know and no refresh token.
        scopes: scopes.intersection(&resource.scope_names()),
    };
    let minter = app.minter(false);
    match app.store.issue_access_token(grant, minter, now).await {
        Ok(issued) => respond(app, "client_credentials", &issued),
        Err(StoreError::Conflict(text)) => Err(OAuthError::bad("invalid_target", text)),
        Err(error) => Err(error.into()),
    }
}

fn respond(
    app: &App,
    grant_type: &'static str,
    issued: &Issued,
) -> Result<TokenResponse, OAuthError> {
    let now = app.clock.now();
    let id_token = issued.scopes.contains("openid").then(|| {
        let signed = id_token::sign(&app.signing_key, app.issuer.as_str(), issued, now);
        signed.map_err(|error| {
            tracing::error!(%error, "an ID token could not be signed");
            OAuthError::server_error()
        })
    });
    app.metrics.token_issued(grant_type);
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

fn required<'a>(form: &'a Form, name: &'static str) -> Result<&'a str, OAuthError> {
    form.params
        .get(name)
        .ok_or_else(|| OAuthError::invalid_request(format!("{name} is missing")))
}

/// The hashes of a presented code or refresh token; one of another kind is unknown.
fn presented(
    app: &App,
    form: &Form,
    name: &'static str,
    kind: TokenKind,
) -> Result<Vec<KeyedHash>, OAuthError> {
    let token = Token::parse(required(form, name)?).filter(|token| token.kind() == kind);
    let token = token.ok_or_else(|| refused(Refusal::Unknown))?;
    Ok(app.pepper.token_hashes(&token))
}

/// `resource` in the form in which it is registered, so that a slash more or less does not matter. One
/// that was not granted is found out later, against the grant.
async fn canonical_resource(
    app: &App,
    form: &Form,
    client: &Client,
) -> Result<Option<String>, OAuthError> {
    let Some(requested) = form.params.get("resource") else {
        return Ok(None);
    };
    let resources = app.store.resources().await?;
    let resource = audience::resource(Some(requested), client, &resources)?;
    Ok(Some(resource.resource.clone()))
}

fn refused(refusal: Refusal) -> OAuthError {
    let code = match refusal {
        Refusal::Resource => "invalid_target",
        Refusal::Scope => "invalid_scope",
        Refusal::Unknown
        | Refusal::AnotherClient
        | Refusal::Expired
        | Refusal::Reused
        | Refusal::TooManyAttempts
        | Refusal::RedirectUri
        | Refusal::CodeVerifier => "invalid_grant",
    };
    OAuthError::bad(code, refusal.to_string())
}
