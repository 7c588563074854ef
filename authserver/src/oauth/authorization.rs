//! Authorization requests (OAuth 2.1, section 4.1.1): which are valid, and whether errors are shown to the user or sent to the client.
//!
//! Until client and redirect URI are validated, an error is shown only to the user.
//! After that, it is sent to the client by redirect.

use mcpauth_wire::Issuer;
use mcpauth_wire::Scopes;
use mcpauth_wire::client::GrantType;

use crate::oauth::audience;
use crate::oauth::client::Client;
use crate::oauth::error::OAuthError;
use crate::oauth::params::{Params, ParamsError};
use crate::oauth::pkce;
use crate::oauth::redirect_uri;
use crate::oauth::resource::Resource;

/// A longer query is refused.
const MAX_QUERY: usize = 8 * 1024;
/// A longer `nonce` is refused: it is stored.
const MAX_NONCE: usize = 512;

/// An error that is shown only to the user, because the redirect URI cannot be trusted yet.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocalFault {
    /// The query does not parse.
    #[error("The request is malformed: {0}.")]
    Params(#[from] ParamsError),
    /// The query is too long.
    #[error("The request is too long.")]
    TooLong,
    /// There is no `client_id`.
    #[error("The request is malformed: client_id is missing.")]
    NoClient,
    /// The client is not registered, or has been removed.
    #[error(
        "The application is not registered here, or its registration has expired. Remove the connection in the application, and connect again."
    )]
    UnknownClient,
    /// The redirect URI is not one of the registered ones.
    #[error(
        "The application asked to be redirected to an address (redirect_uri) that it has not registered. Remove the connection in the application, and connect again."
    )]
    RedirectUri,
    /// There is no redirect URI, and several are registered.
    #[error(
        "The application has registered several addresses (redirect_uri) and did not say which one to use. Remove the connection in the application, and connect again."
    )]
    NoRedirectUri,
}

/// Where the response is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseTarget {
    /// The validated redirect URI.
    pub redirect_uri: String,
    /// The client's `state`.
    pub state: Option<String>,
}

impl ResponseTarget {
    /// The URL of an answer with these parameters, and with `state` and `iss` (RFC 9207).
    pub fn url(&self, issuer: &Issuer, params: &[(&str, &str)]) -> String {
        let mut all = params.to_vec();
        all.extend(self.state.as_deref().map(|state| ("state", state)));
        all.push(("iss", issuer.as_str()));
        redirect_uri::with_params(&self.redirect_uri, &all)
    }

    /// The URL that tells the client of an error.
    pub fn error_url(&self, issuer: &Issuer, error: &OAuthError) -> String {
        let description = error.description();
        let params = [("error", error.code()), ("error_description", description)];
        self.url(issuer, &params)
    }
}

/// A valid authorization request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationRequest {
    /// The resource that it is for.
    pub resource: Resource,
    /// The scopes that it gets.
    pub scopes: Scopes,
    /// The S256 challenge.
    pub code_challenge: String,
    /// For the ID token.
    pub nonce: Option<String>,
    /// Which pages the user may be shown.
    pub prompt: Prompt,
    /// How long ago the login may be, in seconds (OpenID Connect Core, section 3.1.2.1).
    pub max_age: Option<u32>,
}

impl AuthorizationRequest {
    /// The scopes with all that they imply: what the user consents to.
    pub fn effective_scopes(&self) -> Scopes {
        self.resource.with_implied(&self.scopes)
    }
}

/// `prompt` of OpenID Connect Core, section 3.1.2.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Login when there is no session, then consent where it is needed.
    Default,
    /// Nothing.
    None,
    /// Login even when there is a session.
    Login,
    /// Consent even where it is not needed.
    Consent,
}

/// Reads the query of an authorization request.
///
/// # Errors
/// When it is too long or not UTF-8, or repeats what decides where the response is sent.
pub fn parse(query: &str) -> Result<Params, LocalFault> {
    let params = Params::parse_with_repeated(query.as_bytes())?;
    for name in ["client_id", "redirect_uri"] {
        if params.is_repeated(name) {
            return Err(ParamsError::Duplicate(name.to_owned()).into());
        }
    }
    // The length of the re-encoded query, which the login page sends again.
    if params.to_query().len() > MAX_QUERY {
        return Err(LocalFault::TooLong);
    }
    Ok(params)
}

/// Where responses to this request may be sent.
///
/// # Errors
/// When the redirect URI is not the client's.
pub fn target(params: &Params, client: &Client) -> Result<ResponseTarget, LocalFault> {
    let registered = &client.metadata.redirect_uris;
    let redirect_uri = match (params.get("redirect_uri"), registered.as_slice()) {
        (Some(requested), _) if requested.contains('#') => return Err(LocalFault::RedirectUri),
        (Some(requested), uris) => uris
            .iter()
            .any(|uri| redirect_uri::matches(uri, requested))
            .then_some(requested)
            .ok_or(LocalFault::RedirectUri)?,
        (None, [only]) => only,
        (None, []) => return Err(LocalFault::RedirectUri),
        (None, _) => return Err(LocalFault::NoRedirectUri),
    };
    Ok(ResponseTarget {
        redirect_uri: redirect_uri.to_owned(),
        // Of two, the client could expect either.
        state: params
            .get("state")
            .filter(|_| !params.is_repeated("state"))
            .map(str::to_owned),
    })
}

/// Checks everything else.
///
/// # Errors
/// What the client is told by redirect.
pub fn check(
    params: &Params,
    client: &Client,
    resources: &[Resource],
) -> Result<AuthorizationRequest, OAuthError> {
    if !client
        .metadata
        .grant_types
        .contains(&GrantType::AuthorizationCode)
    {
        let text = "the client is not registered for the authorization_code grant; add it to the client's grant types";
        return Err(OAuthError::UnauthorizedClient(text.into()));
    }
    params.check_repeated()?;
    check_unsupported(params)?;
    let code_challenge = pkce::challenge(
        params.get("code_challenge"),
        params.get("code_challenge_method"),
    )
    .map_err(|error| OAuthError::InvalidRequest(error.to_string().into()))?;
    let nonce = params.get("nonce");
    if nonce.is_some_and(|nonce| nonce.len() > MAX_NONCE || nonce.contains('\0')) {
        let text = "nonce must be at most 512 bytes long, without NUL";
        return Err(OAuthError::InvalidRequest(text.into()));
    }
    let requested = audience::requested(params)?;
    let resource = audience::resource(requested, client, resources)?;
    let scopes = audience::scopes(params.get("scope"), client, resource)?;
    Ok(AuthorizationRequest {
        scopes,
        resource: resource.clone(),
        code_challenge: code_challenge.to_owned(),
        nonce: nonce.map(str::to_owned),
        prompt: prompt(params)?,
        max_age: max_age(params)?,
    })
}

fn max_age(params: &Params) -> Result<Option<u32>, OAuthError> {
    let Some(text) = params.get("max_age") else {
        return Ok(None);
    };
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        let text = "max_age must be a number of seconds";
        return Err(OAuthError::InvalidRequest(text.into()));
    }
    // Longer than any login lasts.
    Ok(Some(text.parse().unwrap_or(u32::MAX)))
}

fn check_unsupported(params: &Params) -> Result<(), OAuthError> {
    let invalid = |text: &'static str| Err(OAuthError::InvalidRequest(text.into()));
    if params.get("request").is_some() {
        return Err(OAuthError::RequestNotSupported);
    }
    if params.get("request_uri").is_some() {
        return Err(OAuthError::RequestUriNotSupported);
    }
    match params.get("response_type") {
        Some("code") => {}
        Some(_) => {
            let text = "response_type must be code";
            return Err(OAuthError::UnsupportedResponseType(text.into()));
        }
        None => return invalid("response_type is missing; it must be code"),
    }
    match params.get("response_mode") {
        None | Some("query") => Ok(()),
        Some(_) => invalid("response_mode must be query"),
    }
}

fn prompt(params: &Params) -> Result<Prompt, OAuthError> {
    let values: Vec<&str> = params
        .get("prompt")
        .unwrap_or_default()
        .split(' ')
        .collect();
    match values.as_slice() {
        ["none"] => Ok(Prompt::None),
        several if several.contains(&"none") => {
            let text = "prompt=none cannot be combined with another value";
            Err(OAuthError::InvalidRequest(text.into()))
        }
        some if some.contains(&"login") || some.contains(&"select_account") => Ok(Prompt::Login),
        some if some.contains(&"consent") => Ok(Prompt::Consent),
        _ => Ok(Prompt::Default),
    }
}
