//! OAuth clients: the words of RFC 7591, and the document by which a client is declared.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::invalid::Bounds;
use crate::redirect_uri::{self, PrivateSchemes};
use crate::resource_uri::ResourceUri;
use crate::secret::Secret;
use crate::{Invalid, namespace, scope, web_url};

/// The length of a client's id, in characters.
pub const ID_LENGTH: Bounds = Bounds::new(1, 256);
/// The length of a client's name, in characters. Without a name people see the id.
pub const NAME_LENGTH: Bounds = Bounds::new(0, 256);
/// The length of the URL of a web page, in characters.
pub const WEB_LENGTH: Bounds = Bounds::new(1, 2048);
/// The URL of a web page about the client, as a pattern for schemas.
pub const WEB_PATTERN: &str = concat!(
    "^https?://",
    crate::host_pattern!(),
    crate::port_pattern!(),
    r"([/?#][^\s]*)?$"
);
/// The URL of a logo, as a pattern for schemas: it stands in pages that are served over TLS.
pub const LOGO_PATTERN: &str = concat!(
    "^https://",
    crate::host_pattern!(),
    crate::port_pattern!(),
    r"([/?#][^\s]*)?$"
);
/// The length of a client's secret, in bytes. At least 128 bits in base64.
pub const SECRET_LENGTH: Bounds = Bounds::new(22, 512);
/// How many public keys a client has.
pub const KEY_COUNT: Bounds = Bounds::new(1, 16);
/// The length of an RSA key's modulus in base64url: 2048 to 4096 bits.
pub const RSA_MODULUS: Bounds = Bounds::new(342, 683);
/// The length of an RSA key's public exponent in base64url: at most 24 bits.
pub const RSA_EXPONENT: Bounds = Bounds::new(1, 4);
/// How many scopes a client may have at one resource.
pub const SCOPE_COUNT: Bounds = Bounds::new(0, 32);
/// How many resources a client may ask for.
pub const RESOURCE_COUNT: Bounds = Bounds::new(0, 32);

/// Why a public client with such redirect URIs cannot be trusted.
const TRUSTED_BUT_LOCAL: &str = "a public client (tokenEndpointAuthMethod: none) can be trusted only if all its \
     redirect URIs are https URLs of a website: any program on the user's machine can receive the others";

/// `token_endpoint_auth_method` of RFC 7591 and OpenID Connect Core, section 9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenEndpointAuthMethod {
    /// A public client.
    #[default]
    None,
    /// HTTP Basic.
    ClientSecretBasic,
    /// In the form.
    ClientSecretPost,
    /// A JWT signed with the client's key (RFC 7523).
    PrivateKeyJwt,
}

impl TokenEndpointAuthMethod {
    /// All of them: what the token endpoint supports.
    pub const ALL: [Self; 4] = [
        Self::None,
        Self::ClientSecretBasic,
        Self::ClientSecretPost,
        Self::PrivateKeyJwt,
    ];

    /// The value of `token_endpoint_auth_method`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }

    /// From the value of `token_endpoint_auth_method`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }

    /// Whether the client has a secret.
    #[must_use]
    pub const fn has_secret(self) -> bool {
        matches!(self, Self::ClientSecretBasic | Self::ClientSecretPost)
    }
}

/// What the assertions of a client with `private_key_jwt` name as their audience.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AssertionAudience {
    /// The issuer.
    #[default]
    Issuer,
    /// The issuer or the token endpoint's URL, for old clients.
    TokenEndpoint,
}

impl AssertionAudience {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde's skip_serializing_if passes a reference"
    )]
    fn is_issuer(&self) -> bool {
        *self == Self::Issuer
    }
}

/// `grant_type` values that the token endpoint knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrantType {
    /// OAuth 2.1, section 4.1.
    AuthorizationCode,
    /// OAuth 2.1, section 4.3.
    RefreshToken,
    /// OAuth 2.1, section 4.2.
    ClientCredentials,
}

impl GrantType {
    /// All of them: what the token endpoint supports.
    pub const ALL: [Self; 3] = [
        Self::AuthorizationCode,
        Self::RefreshToken,
        Self::ClientCredentials,
    ];

    /// The value of `grant_type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::RefreshToken => "refresh_token",
            Self::ClientCredentials => "client_credentials",
        }
    }

    /// From the value of `grant_type`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

/// A declared client: in the admin API, and in `clients` of `authserver.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Client {
    /// Its id, in the configuration file; in the admin API it stands in the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The name that people see.
    #[serde(default)]
    pub client_name: String,
    /// A web page about the client.
    #[serde(default)]
    pub client_uri: Option<String>,
    /// The client's logo.
    #[serde(default)]
    pub logo_uri: Option<String>,
    /// How it authenticates.
    pub token_endpoint_auth_method: TokenEndpointAuthMethod,
    /// Its secret; never in an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<Secret>,
    /// Its public keys (RFC 7517).
    #[serde(default)]
    pub jwks: Option<Value>,
    /// What its assertions name as their audience, for `private_key_jwt`.
    #[serde(default, skip_serializing_if = "AssertionAudience::is_issuer")]
    pub assertion_audience: AssertionAudience,
    /// Where users may be sent back.
    #[serde(default)]
    pub redirect_uris: Vec<String>,
    /// How it may get tokens.
    pub grant_types: Vec<GrantType>,
    /// The namespace that it is declared in, by which resources admit it; see
    /// [`AllowedClients`](crate::admin::AllowedClients).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What it may ask for, as far as the resources admit it. Empty: nothing.
    #[serde(default)]
    pub resources: Vec<ClientResource>,
    /// Whether users are asked before it gets access. Not written when they are, so that an older server reads it.
    #[serde(default, skip_serializing_if = "Consent::is_asked")]
    pub consent: Consent,
}

/// Whether users are asked before a client gets access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consent {
    /// On the consent page.
    #[default]
    Ask,
    /// Not where the resource agrees, see [`WithoutConsent`](crate::admin::WithoutConsent).
    Trusted,
}

impl Consent {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde's skip_serializing_if passes a reference"
    )]
    fn is_asked(&self) -> bool {
        *self == Self::Ask
    }
}

/// What a client may have at a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientResource {
    /// The resource identifier (RFC 8707), in any spelling that is equal.
    pub uri: String,
    /// The scopes. Empty: none.
    #[serde(default)]
    pub scopes: Vec<String>,
}

impl Client {
    /// Whether this is a valid client with this id. Whether its keys can be used, only the server can
    /// tell.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self, client_id: &str) -> Result<(), Invalid> {
        check_id("clientId", client_id)?;
        NAME_LENGTH.text("clientName", &self.client_name)?;
        check_web("clientUri", self.client_uri.as_deref(), "http or https")?;
        check_web("logoUri", self.logo_uri.as_deref(), "https")?;
        self.check_credentials()?;
        self.check_grants()?;
        redirect_uri::COUNT.list("redirectUris", &self.redirect_uris)?;
        for (index, uri) in self.redirect_uris.iter().enumerate() {
            redirect_uri::check(uri, PrivateSchemes::Any)
                .map_err(|error| Invalid::new(format!("redirectUris[{index}]"), error))?;
        }
        self.check_consent()?;
        if let Some(namespace) = &self.namespace {
            namespace::check("namespace", namespace)?;
        }
        RESOURCE_COUNT.list("resources", &self.resources)?;
        for (index, resource) in self.resources.iter().enumerate() {
            let below = |error: Invalid| error.below(&format!("resources[{index}]"));
            resource.check().map_err(below)?;
        }
        Ok(())
    }

    /// Any program on the user's machine can pose as a public client that is called back there, so users must be
    /// asked (RFC 8252, section 8.6).
    fn check_consent(&self) -> Result<(), Invalid> {
        let public = self.token_endpoint_auth_method == TokenEndpointAuthMethod::None;
        if self.consent != Consent::Trusted || !public {
            return Ok(());
        }
        match self
            .redirect_uris
            .iter()
            .all(|uri| redirect_uri::is_web(uri))
        {
            true => Ok(()),
            false => Err(Invalid::new("consent", TRUSTED_BUT_LOCAL)),
        }
    }

    fn check_credentials(&self) -> Result<(), Invalid> {
        use TokenEndpointAuthMethod::{
            ClientSecretBasic, ClientSecretPost, None as Public, PrivateKeyJwt,
        };
        let invalid = |key: &str, text: &str| Err(Invalid::new(key, text));
        let length = self.client_secret.as_ref().map(|s| s.reveal().len());
        match (self.token_endpoint_auth_method, length, &self.jwks) {
            (ClientSecretBasic | ClientSecretPost, Some(length), None)
                if SECRET_LENGTH.hold(length) =>
            {
                Ok(())
            }
            (ClientSecretBasic | ClientSecretPost, _, None) => invalid(
                "clientSecret",
                &format!(
                    "expected {SECRET_LENGTH} bytes, because tokenEndpointAuthMethod requires a secret"
                ),
            ),
            (Public | PrivateKeyJwt, Some(_), _) => invalid(
                "clientSecret",
                "expected no secret with this tokenEndpointAuthMethod",
            ),
            (PrivateKeyJwt, None, Some(jwks)) => {
                check_jwks(jwks).map_err(|text| Invalid::new("jwks", text))
            }
            (PrivateKeyJwt, None, None) => invalid(
                "jwks",
                "expected a JWK set, because tokenEndpointAuthMethod is private_key_jwt",
            ),
            (_, _, Some(_)) => invalid(
                "jwks",
                "expected no keys unless tokenEndpointAuthMethod is private_key_jwt",
            ),
            (Public, None, None) => Ok(()),
        }?;
        if self.assertion_audience != AssertionAudience::Issuer
            && self.token_endpoint_auth_method != PrivateKeyJwt
        {
            return invalid(
                "assertionAudience",
                "expected none unless tokenEndpointAuthMethod is private_key_jwt",
            );
        }
        Ok(())
    }

    fn check_grants(&self) -> Result<(), Invalid> {
        let has = |grant| self.grant_types.contains(&grant);
        let invalid = |key: &str, text: &str| Err(Invalid::new(key, text));
        if self.grant_types.is_empty() {
            return invalid("grantTypes", "expected at least one");
        }
        if has(GrantType::AuthorizationCode) && self.redirect_uris.is_empty() {
            let text = "expected at least one, because grantTypes contains authorization_code";
            return invalid("redirectUris", text);
        }
        if has(GrantType::RefreshToken) && !has(GrantType::AuthorizationCode) {
            let text = "refresh_token requires authorization_code";
            return invalid("grantTypes", text);
        }
        let public = self.token_endpoint_auth_method == TokenEndpointAuthMethod::None;
        if has(GrantType::ClientCredentials) && public {
            let text = "client_credentials requires client authentication; tokenEndpointAuthMethod must not be none";
            return invalid("grantTypes", text);
        }
        Ok(())
    }
}

impl ClientResource {
    fn check(&self) -> Result<(), Invalid> {
        ResourceUri::parse(&self.uri).map_err(|error| Invalid::new("uri", error))?;
        SCOPE_COUNT.list("scopes", &self.scopes)?;
        for (index, name) in self.scopes.iter().enumerate() {
            scope::check_name(format!("scopes[{index}]"), name)?;
        }
        Ok(())
    }
}

/// Whether this can be a client's id, and the id of a resource: 1–256 of `[A-Za-z0-9._~-]`.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    ID_LENGTH.hold(text.len()) && text.bytes().all(plain)
}

/// Checks an id, which stands at `key`.
///
/// # Errors
/// When it is none.
pub fn check_id(key: impl Into<String>, id: &str) -> Result<(), Invalid> {
    match is_id(id) {
        true => Ok(()),
        false => Err(Invalid::new(key, "expected 1–256 of A–Z a–z 0–9 . _ ~ -")),
    }
}

/// Checks the form of a JWK set: only public keys, and not too many of them.
///
/// # Errors
/// What would be right.
pub fn check_jwks(jwks: &Value) -> Result<(), String> {
    let keys = jwks.get("keys").and_then(Value::as_array);
    let Some(keys) = keys.filter(|keys| KEY_COUNT.hold(keys.len())) else {
        return Err(EXPECTED_KEYS.into());
    };
    for (index, key) in keys.iter().enumerate() {
        let has = |member: &str| key.get(member).is_some();
        if ["d", "p", "q", "dp", "dq", "qi", "k"].into_iter().any(has) {
            return Err(format!(
                "keys[{index}] is a private or symmetric key: register public keys only, and replace this key, because it is now exposed"
            ));
        }
        if !key["kty"].is_string() {
            return Err(format!("keys[{index}]: {EXPECTED_KEYS}"));
        }
        if !is_affordable(key) {
            return Err(format!("keys[{index}]: {EXPECTED_RSA}"));
        }
    }
    Ok(())
}

/// Whether a signature by this key costs little to verify: the time grows with the length of an RSA key's numbers.
#[must_use]
pub fn is_affordable(key: &Value) -> bool {
    let within = |member: &str, bounds: Bounds| {
        let value = key[member].as_str();
        value.is_some_and(|value| bounds.hold(value.len()))
    };
    key["kty"] != "RSA" || (within("n", RSA_MODULUS) && within("e", RSA_EXPONENT))
}

/// What an RSA key should be.
const EXPECTED_RSA: &str = "expected an RSA key of 2048 to 4096 bits with a public exponent of at most 24 bits, such as 65537";

/// What a JWK set should be.
pub const EXPECTED_KEYS: &str = "expected {\"keys\": […]} with 1–16 public RSA, EC or OKP keys";

/// A page of the client's: shown as text, never fetched.
fn check_web(key: &str, uri: Option<&str>, schemes: &str) -> Result<(), Invalid> {
    let good = |uri: &str| {
        let secure = uri.strip_prefix("https://");
        let rest = secure.or_else(|| uri.strip_prefix("http://").filter(|_| schemes != "https"));
        let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
        let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0c');
        WEB_LENGTH.hold(uri.chars().count())
            && authority.is_some_and(|authority| web_url::authority_parts(authority).is_ok())
            && !uri.contains(space)
            && Url::parse(uri).is_ok()
    };
    match uri {
        Some(uri) if !good(uri) => {
            let text = format!(
                "expected an {schemes} URL of at most {} characters",
                WEB_LENGTH.most
            );
            Err(Invalid::new(key, text))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(changes: &Value) -> Client {
        let mut document = json!({
            "tokenEndpointAuthMethod": "none", "redirectUris": ["http://localhost/cb"],
            "grantTypes": ["authorization_code"],
        });
        for (name, value) in changes.as_object().unwrap() {
            document[name] = value.clone();
        }
        serde_json::from_value(document).unwrap()
    }

    fn client(changes: &Value) -> Result<(), Invalid> {
        document(changes).check("default_robot")
    }

    #[test]
    fn rsa_keys_are_bounded() {
        let of = |n: usize, e: &str| {
            let key = json!({ "kty": "RSA", "n": "Q".repeat(n), "e": e });
            client(
                &json!({ "tokenEndpointAuthMethod": "private_key_jwt", "jwks": { "keys": [key] } }),
            )
        };
        assert_eq!(of(342, "Aw"), Ok(()));
        assert_eq!(of(683, "AQAB"), Ok(()));
        // 8192 bits, and 33 bits.
        for (n, e) in [(1366, "AQAB"), (342, "AQAAAAE"), (171, "AQAB")] {
            let error = of(n, e).unwrap_err();
            assert!(error.to_string().contains("2048 to 4096 bits"), "{error}");
        }
    }

    #[test]
    fn clients() {
        assert_eq!(client(&json!({})), Ok(()));
        let jwks = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ" }] });
        let with_key = json!({ "tokenEndpointAuthMethod": "private_key_jwt", "jwks": jwks });
        assert_eq!(client(&with_key), Ok(()));
        for (changes, key) in [
            (json!({ "clientName": "a".repeat(257) }), "clientName"),
            (json!({ "clientSecret": "x" }), "clientSecret"),
            (
                json!({ "tokenEndpointAuthMethod": "client_secret_post" }),
                "clientSecret",
            ),
            (
                json!({ "tokenEndpointAuthMethod": "client_secret_post", "clientSecret": "21-bytes-are-too-few-" }),
                "clientSecret",
            ),
            (
                json!({ "tokenEndpointAuthMethod": "private_key_jwt" }),
                "jwks",
            ),
            (
                json!({ "tokenEndpointAuthMethod": "private_key_jwt", "jwks": { "keys": [] } }),
                "jwks",
            ),
            (
                json!({ "tokenEndpointAuthMethod": "private_key_jwt", "jwks": { "keys": [{ "kty": "EC", "d": "AQ" }] } }),
                "jwks",
            ),
            (json!({ "jwks": jwks }), "jwks"),
            (json!({ "grantTypes": [] }), "grantTypes"),
            (json!({ "grantTypes": ["refresh_token"] }), "grantTypes"),
            (
                json!({ "grantTypes": ["client_credentials"] }),
                "grantTypes",
            ),
            (json!({ "redirectUris": [] }), "redirectUris"),
            (
                json!({ "redirectUris": ["javascript:x"] }),
                "redirectUris[0]",
            ),
            (json!({ "logoUri": "data:x" }), "logoUri"),
            (json!({ "logoUri": "http://a.example/logo" }), "logoUri"),
            (json!({ "clientUri": "https://" }), "clientUri"),
            (json!({ "clientUri": "https://u@a.example" }), "clientUri"),
            (json!({ "clientUri": "https://a.example/a b" }), "clientUri"),
            (
                json!({ "resources": [{ "uri": "notes" }] }),
                "resources[0].uri",
            ),
            (
                json!({ "resources": [{ "uri": "https://a.example", "scopes": ["a b"] }] }),
                "resources[0].scopes[0]",
            ),
            (json!({ "namespace": "Team" }), "namespace"),
        ] {
            assert_eq!(client(&changes).unwrap_err().key, key, "{changes}");
        }
        assert_eq!(
            client(&json!({ "clientUri": "http://a.example/?ä" })),
            Ok(())
        );
    }

    #[test]
    fn client_ids_are_short_and_plain() {
        assert!(is_id("default_ci-robot.1~"));
        assert!(is_id(&"a".repeat(256)));
        for wrong in ["", "a b", "a:b", "ä", "a/b", "a\n", &"a".repeat(257)] {
            assert!(!is_id(wrong), "{wrong:?}");
            assert_eq!(
                document(&json!({})).check(wrong).unwrap_err().key,
                "clientId"
            );
        }
    }

    #[test]
    fn a_secret_is_sent_but_never_shown() {
        let secret =
            json!({ "tokenEndpointAuthMethod": "client_secret_basic", "clientSecret": "hunter2" });
        let client = document(&secret);
        assert!(!format!("{client:?}").contains("hunter2"));
        assert_eq!(
            serde_json::to_value(&client).unwrap()["clientSecret"],
            "hunter2"
        );
        let unknown = json!({ "grantTypes": [], "tokenEndpointAuthMethod": "none", "more": 1 });
        assert!(serde_json::from_value::<Client>(unknown).is_err());
    }
}
