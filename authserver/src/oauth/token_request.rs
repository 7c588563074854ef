//! Requests to the token endpoint (OAuth 2.1, section 3.2.2), read from the form in one place.

use std::fmt;

use mcpauth_wire::Scopes;
use mcpauth_wire::client::GrantType;

use crate::oauth::audience;
use crate::oauth::error::OAuthError;
use crate::oauth::grant::Refusal;
use crate::oauth::params::Params;
use crate::oauth::token::{Token, TokenKind};

/// A token request, a variant for each grant type.
#[derive(Debug)]
pub enum TokenRequest<'a> {
    /// See [`AuthorizationCodeRequest`].
    AuthorizationCode(AuthorizationCodeRequest<'a>),
    /// See [`RefreshTokenRequest`].
    RefreshToken(RefreshTokenRequest<'a>),
    /// See [`ClientCredentialsRequest`].
    ClientCredentials(ClientCredentialsRequest<'a>),
}

/// A code in exchange for tokens (OAuth 2.1, section 4.1.3). `Debug` does not show the verifier.
pub struct AuthorizationCodeRequest<'a> {
    /// `code`.
    pub code: Token,
    /// `code_verifier` (RFC 7636).
    pub code_verifier: &'a str,
    /// `redirect_uri`: OAuth 2.1 leaves it out, OAuth 2.0 clients send it.
    pub redirect_uri: Option<&'a str>,
    /// `resource` (RFC 8707), as the client spells it.
    pub resource: Option<&'a str>,
}

impl fmt::Debug for AuthorizationCodeRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationCodeRequest")
            .field("redirect_uri", &self.redirect_uri)
            .field("resource", &self.resource)
            .finish_non_exhaustive()
    }
}

/// A refresh token in exchange for new tokens (OAuth 2.1, section 4.3.1).
#[derive(Debug)]
pub struct RefreshTokenRequest<'a> {
    /// `refresh_token`.
    pub refresh_token: Token,
    /// `scope`, if the client wants fewer than it was granted.
    pub scopes: Option<Scopes>,
    /// `resource` (RFC 8707), as the client spells it.
    pub resource: Option<&'a str>,
}

/// A token for the client itself (OAuth 2.1, section 4.2.1).
#[derive(Debug)]
pub struct ClientCredentialsRequest<'a> {
    /// `scope`, not yet parsed.
    pub scope: Option<&'a str>,
    /// `resource` (RFC 8707), as the client spells it.
    pub resource: Option<&'a str>,
}

/// The grant type of a request: known before the client is authenticated.
///
/// # Errors
/// `invalid_request` when it is missing, `unsupported_grant_type` when it is another.
pub fn grant_type(params: &Params) -> Result<GrantType, OAuthError> {
    let name = params
        .get("grant_type")
        .ok_or_else(|| missing("grant_type"))?;
    GrantType::parse(name).ok_or_else(|| {
        let known = GrantType::ALL.map(GrantType::as_str).join(", ");
        OAuthError::UnsupportedGrantType(format!("grant_type must be one of {known}").into())
    })
}

impl<'a> TokenRequest<'a> {
    /// The parameters that belong to the grant type; others are ignored (OAuth 2.1, section 3.2).
    ///
    /// # Errors
    /// `invalid_request` when a required one is missing, `invalid_grant` for a code or refresh token that
    /// cannot be ours, `invalid_scope` for a scope that is malformed, `invalid_target` for two resources.
    pub fn parse(grant_type: GrantType, params: &'a Params) -> Result<Self, OAuthError> {
        let resource = audience::requested(params)?;
        Ok(match grant_type {
            GrantType::AuthorizationCode => Self::AuthorizationCode(AuthorizationCodeRequest {
                code: token(params, "code", TokenKind::Code)?,
                code_verifier: required(params, "code_verifier")?,
                redirect_uri: params.get("redirect_uri"),
                resource,
            }),
            GrantType::RefreshToken => Self::RefreshToken(RefreshTokenRequest {
                refresh_token: token(params, "refresh_token", TokenKind::Refresh)?,
                scopes: params
                    .get("scope")
                    .map(Scopes::parse)
                    .transpose()
                    .map_err(|error| OAuthError::InvalidScope(error.to_string().into()))?,
                resource,
            }),
            GrantType::ClientCredentials => Self::ClientCredentials(ClientCredentialsRequest {
                scope: params.get("scope"),
                resource,
            }),
        })
    }
}

/// A code or refresh token; one of another kind counts as unknown.
fn token(params: &Params, name: &'static str, kind: TokenKind) -> Result<Token, OAuthError> {
    Token::parse(required(params, name)?)
        .filter(|token| token.kind() == kind)
        .ok_or_else(|| Refusal::Unknown.into())
}

fn required<'a>(params: &'a Params, name: &'static str) -> Result<&'a str, OAuthError> {
    params.get(name).ok_or_else(|| missing(name))
}

fn missing(name: &'static str) -> OAuthError {
    OAuthError::InvalidRequest(format!("{name} is missing").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(form: &str) -> Result<String, OAuthError> {
        let params = Params::parse(form.as_bytes()).unwrap();
        let request = TokenRequest::parse(grant_type(&params)?, &params)?;
        Ok(format!("{request:?}"))
    }

    fn text(kind: TokenKind) -> String {
        Token::generate(kind, [7; 32]).reveal().to_owned()
    }

    #[test]
    fn each_grant_type_reads_its_own_parameters() {
        let (code, refresh) = (text(TokenKind::Code), text(TokenKind::Refresh));
        let form = format!("grant_type=authorization_code&code={code}&code_verifier=v&scope=%22");
        assert!(parse(&form).unwrap().starts_with("AuthorizationCode("));
        let form = format!("grant_type=refresh_token&refresh_token={refresh}&scope=a");
        assert!(parse(&form).unwrap().starts_with("RefreshToken("));
        let request = parse("grant_type=client_credentials&code=x").unwrap();
        assert!(request.starts_with("ClientCredentials("), "{request}");
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        let (code, refresh) = (text(TokenKind::Code), text(TokenKind::Refresh));
        for (form, expected) in [
            ("", "invalid_request: grant_type is missing"),
            (
                "grant_type=password",
                "unsupported_grant_type: grant_type must be one of authorization_code, refresh_token, client_credentials",
            ),
            (
                "grant_type=authorization_code&code_verifier=v",
                "invalid_request: code is missing",
            ),
            (
                &format!("grant_type=authorization_code&code={code}"),
                "invalid_request: code_verifier is missing",
            ),
            (
                &format!("grant_type=authorization_code&code={refresh}&code_verifier=v"),
                "invalid_grant: the code or refresh token is unknown, expired or revoked",
            ),
            (
                &format!("grant_type=refresh_token&refresh_token={code}"),
                "invalid_grant: the code or refresh token is unknown, expired or revoked",
            ),
            (
                &format!("grant_type=refresh_token&refresh_token={refresh}&scope=%22"),
                "invalid_scope: ",
            ),
        ] {
            let error = parse(form).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{form}: {error}");
        }
    }
}
