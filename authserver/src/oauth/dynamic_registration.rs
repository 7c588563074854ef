//! What a client that registers itself may have (RFC 7591, sections 2 and 3.2.2).

use std::net::{IpAddr, Ipv4Addr};

use mcpauth_service::connections;
use mcpauth_wire::Secret;
use mcpauth_wire::authserver_config::SigningAlgorithm;
use mcpauth_wire::client::{GrantType, TokenEndpointAuthMethod};
use mcpauth_wire::redirect_uri::{self, PrivateSchemes};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use crate::oauth::client::ClientMetadata;
use crate::oauth::client_assertion;
use crate::oauth::error::{Description, OAuthError};

const MAX_REDIRECT_URIS: usize = 32;
const MAX_NAME: usize = 256;

/// A registration request. Members that we do not know are ignored (RFC 7591, section 2).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Request {
    redirect_uris: Vec<String>,
    token_endpoint_auth_method: Option<String>,
    grant_types: Option<Vec<String>>,
    response_types: Option<Vec<String>>,
    client_name: Option<String>,
    client_uri: Option<String>,
    logo_uri: Option<String>,
    jwks: Option<Value>,
    jwks_uri: Option<String>,
    id_token_signed_response_alg: Option<String>,
}

/// What an update has besides the metadata (RFC 7592, section 2.2).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Update {
    client_id: Option<String>,
    /// The secret that the client has, if it is sent.
    pub client_secret: Option<Secret>,
    client_secret_expires_at: Option<IgnoredAny>,
    client_id_issued_at: Option<IgnoredAny>,
    registration_access_token: Option<IgnoredAny>,
    registration_client_uri: Option<IgnoredAny>,
}

impl Update {
    /// Checks that it is for this client, and changes nothing that the server assigns.
    ///
    /// # Errors
    /// `invalid_client_metadata`, with what is wrong.
    pub fn check(&self, client_id: &str) -> Result<(), OAuthError> {
        if self.client_id.as_deref() != Some(client_id) {
            return invalid("client_id must be the one that was registered");
        }
        let assigned = [
            ("client_secret_expires_at", &self.client_secret_expires_at),
            ("client_id_issued_at", &self.client_id_issued_at),
            ("registration_access_token", &self.registration_access_token),
            ("registration_client_uri", &self.registration_client_uri),
        ];
        match assigned.into_iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => invalid(format!("{name} is assigned by the server; leave it out")),
            None => Ok(()),
        }
    }
}

/// What a server accepts.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Private-use URI schemes that redirect URIs may have.
    pub redirect_schemes: &'a [String],
    /// What a client may use at the token endpoint.
    pub grant_types: &'a [GrantType],
    /// The algorithms that sign ID tokens.
    pub algorithms: &'a [SigningAlgorithm],
}

/// The metadata to register. The requested `scope` is not kept: what a client may have is decided with
/// every authorization, by the user, and clients ask for more later.
///
/// # Errors
/// `invalid_redirect_uri` or `invalid_client_metadata`, with what is wrong.
pub fn accept(request: Request, rules: &Rules<'_>) -> Result<ClientMetadata, OAuthError> {
    let method = method(request.token_endpoint_auth_method.as_deref())?;
    let grant_types = grant_types(request.grant_types.as_deref(), rules.grant_types)?;
    if let Some(types) = &request.response_types
        && !types.iter().any(|known| known == "code")
    {
        return invalid("response_types must contain code");
    }
    redirect_uris(&request.redirect_uris, rules.redirect_schemes)?;
    let name = request.client_name.unwrap_or_default();
    if name.len() > MAX_NAME {
        return invalid("client_name is longer than 256 bytes");
    }
    Ok(ClientMetadata {
        client_name: name,
        client_uri: web(request.client_uri),
        logo_uri: web(request.logo_uri),
        token_endpoint_auth_method: method,
        jwks: jwks(method, request.jwks, request.jwks_uri.as_deref())?,
        redirect_uris: request.redirect_uris,
        grant_types,
        id_token_signed_response_alg: id_token_algorithm(
            request.id_token_signed_response_alg,
            rules.algorithms,
        )?,
        ..ClientMetadata::default()
    })
}

fn invalid<T>(text: impl Into<Description>) -> Result<T, OAuthError> {
    Err(OAuthError::InvalidClientMetadata(text.into()))
}

/// Left out, it is `client_secret_basic` (RFC 7591, section 2).
fn method(requested: Option<&str>) -> Result<TokenEndpointAuthMethod, OAuthError> {
    let Some(requested) = requested else {
        return Ok(TokenEndpointAuthMethod::ClientSecretBasic);
    };
    TokenEndpointAuthMethod::parse(requested).map_or_else(
        || {
            let known = TokenEndpointAuthMethod::ALL.map(TokenEndpointAuthMethod::as_str);
            let known = known.join(", ");
            invalid(format!("token_endpoint_auth_method must be one of {known}"))
        },
        Ok,
    )
}

/// Grant types that are unknown or not allowed are dropped, the answer says what is left. `client_credentials` is refused: its tokens
/// need no user's consent, so an administrator has to declare the client.
fn grant_types(
    requested: Option<&[String]>,
    allowed: &[GrantType],
) -> Result<Vec<GrantType>, OAuthError> {
    let Some(requested) = requested else {
        return Ok(vec![GrantType::AuthorizationCode]);
    };
    let requested: Vec<_> = requested
        .iter()
        .filter_map(|name| GrantType::parse(name))
        .collect();
    if requested.contains(&GrantType::ClientCredentials) {
        return invalid(
            "client_credentials is not available to dynamically registered clients; ask an administrator to register the client",
        );
    }
    if !requested.contains(&GrantType::AuthorizationCode) {
        return invalid("grant_types must contain authorization_code");
    }
    let known = GrantType::ALL.into_iter();
    let granted = known.filter(|one| requested.contains(one) && allowed.contains(one));
    Ok(granted.collect())
}

/// All must be allowed: a client that was registered with fewer than it sent would fail later, without a
/// visible cause.
fn redirect_uris(uris: &[String], schemes: &[String]) -> Result<(), OAuthError> {
    let refused = |text: String| Err(OAuthError::InvalidRedirectUri(text.into()));
    if uris.is_empty() || uris.len() > MAX_REDIRECT_URIS {
        return refused(format!("expected 1 to {MAX_REDIRECT_URIS} redirect_uris"));
    }
    let errors = uris
        .iter()
        .filter_map(|uri| redirect_uri::check(uri, PrivateSchemes::Listed(schemes)).err());
    match errors.map(|error| error.to_string()).next() {
        Some(text) => refused(text),
        None => Ok(()),
    }
}

fn jwks(
    method: TokenEndpointAuthMethod,
    jwks: Option<Value>,
    jwks_uri: Option<&str>,
) -> Result<Option<Value>, OAuthError> {
    match (method, jwks) {
        (TokenEndpointAuthMethod::PrivateKeyJwt, Some(jwks)) => {
            let checked = client_assertion::check_jwks(&jwks);
            checked.or_else(|text| invalid(format!("jwks: {text}")))?;
            Ok(Some(essential(&jwks)))
        }
        (TokenEndpointAuthMethod::PrivateKeyJwt, None) if jwks_uri.is_some() => {
            invalid("jwks_uri is not supported; send the keys as jwks")
        }
        (TokenEndpointAuthMethod::PrivateKeyJwt, None) => invalid("private_key_jwt requires jwks"),
        _ => Ok(None),
    }
}

/// Members of public keys that are kept. All are texts: a certificate chain may be long, and a short number can stand
/// for hundreds of digits in the database.
const KEY_MEMBERS: [&str; 9] = ["kty", "kid", "use", "alg", "crv", "x", "y", "n", "e"];

/// The same keys with what is needed to verify a signature.
fn essential(jwks: &Value) -> Value {
    let essential = |key: &Value| -> Map<String, Value> {
        let members = KEY_MEMBERS.into_iter();
        let texts = members.filter_map(|name| Some((name, key[name].as_str()?)));
        texts
            .map(|(name, text)| (name.to_owned(), text.into()))
            .collect()
    };
    let keys = jwks["keys"].as_array().into_iter().flatten();
    json!({ "keys": keys.map(essential).collect::<Vec<_>>() })
}

/// The network that a registration comes from, when clients have to go: the /24 of an IPv4 address, the /64 of IPv6.
pub fn network(address: IpAddr) -> IpAddr {
    match connections::network(address) {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() & !0xff).into(),
        network @ IpAddr::V6(_) => network,
    }
}

/// OpenID Connect Dynamic Client Registration, section 2.
fn id_token_algorithm(
    requested: Option<String>,
    known: &[SigningAlgorithm],
) -> Result<Option<String>, OAuthError> {
    let mut names = known.iter().map(|algorithm| algorithm.as_str());
    match &requested {
        Some(name) if !names.clone().any(|known| known == name) => {
            let names = names.by_ref().collect::<Vec<_>>().join(", ");
            invalid(format!(
                "id_token_signed_response_alg must be one of {names}"
            ))
        }
        _ => Ok(requested),
    }
}

/// A link; anything else is dropped. It is neither fetched nor shown.
fn web(uri: Option<String>) -> Option<String> {
    uri.filter(|uri| {
        uri.len() <= 2048
            && url::Url::parse(uri).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    })
}

#[cfg(test)]
mod tests;
