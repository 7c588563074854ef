//! The admin API on the authserver's internal port: what its calls carry besides clients, which are in
//! [`crate::client`].
//!
//! `PUT`, `GET` and `DELETE` of `/admin/v1/resources/{id}` and `/admin/v1/clients/{clientId}`.

use serde::{Deserialize, Serialize};

use crate::invalid::Bounds;
use crate::resource_uri::ResourceUri;
use crate::scope::{self, Scope};
use crate::{Invalid, client, namespace, principal};

/// The length of a resource's name, in characters.
pub const RESOURCE_NAME_LENGTH: Bounds = Bounds::new(1, 256);
/// How many namespaces a resource admits by name.
pub const NAMESPACE_COUNT: Bounds = Bounds::new(0, 1024);
/// The `error` of a 409: an equal resource exists under another id.
pub const CONFLICT: &str = "conflict";

/// A collection of the admin API, and its path segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Collection {
    /// Protected resources.
    Resources,
    /// OAuth clients.
    Clients,
}

impl Collection {
    /// The path of an entry; `id` is percent-encoded, or needs no encoding.
    #[must_use]
    pub fn path(self, id: &str) -> String {
        let segment = match self {
            Self::Resources => "resources",
            Self::Clients => "clients",
        };
        format!("/admin/v1/{segment}/{id}")
    }
}

/// The path of [`SigningKeyList`].
pub const SIGNING_KEYS_PATH: &str = "/admin/v1/signing-keys";

/// The keys that sign ID tokens, as `GET` of [`SIGNING_KEYS_PATH`] answers. Members of newer versions are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningKeyList {
    /// The keys, by algorithm and time.
    pub keys: Vec<SigningKey>,
}

/// A signing key, without any part of the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SigningKey {
    /// Its id in the JWK set and in the tokens.
    pub kid: String,
    /// Its algorithm (RFC 7518).
    pub algorithm: String,
    /// What it does.
    pub state: SigningKeyState,
    /// When it begins to sign, in seconds since the epoch.
    pub not_before: i64,
}

/// What a signing key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SigningKeyState {
    /// Published, so that verifiers know it before it signs.
    Next,
    /// It signs.
    Active,
    /// Published until what it has signed has expired.
    Retired,
}

impl SigningKeyState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Next, Self::Active, Self::Retired];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Next => "Next",
            Self::Active => "Active",
            Self::Retired => "Retired",
        }
    }
}

/// A protected resource: in the admin API, and in `resources` of `authserver.yaml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resource {
    /// Its id, in the configuration file; in the admin API it stands in the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The resource identifier (RFC 8707).
    pub resource: String,
    /// Its name, for people.
    pub name: String,
    /// The scopes that it knows.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// The principals that may introspect tokens for it.
    #[serde(default)]
    pub introspectors: Vec<String>,
    /// Whose clients may get tokens for it. Absent: nobody's.
    #[serde(default)]
    pub allowed_clients: AllowedClients,
}

/// Whose clients may get tokens for a resource. A declared client must also name the resource itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AllowedClients {
    /// Clients that are declared in any namespace, and those of none.
    pub all_namespaces: bool,
    /// Clients that are declared in these namespaces.
    pub namespaces: Vec<String>,
    /// Clients that registered themselves; they may have all of its scopes.
    pub self_registered: bool,
    /// Whose clients with `consent: trusted` get tokens without a consent page. Not written when nobody's, so that
    /// an older server reads it.
    #[serde(skip_serializing_if = "WithoutConsent::is_nobody")]
    pub without_consent: WithoutConsent,
}

/// Where clients are declared that need no consent. Empty: nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct WithoutConsent {
    /// In any namespace, or in none.
    pub all_namespaces: bool,
    /// In these namespaces.
    pub namespaces: Vec<String>,
}

impl WithoutConsent {
    fn is_nobody(&self) -> bool {
        *self == Self::default()
    }
}

impl AllowedClients {
    fn check(&self) -> Result<(), Invalid> {
        check_namespaces(&self.namespaces)?;
        let below = |error: Invalid| error.below("withoutConsent");
        check_namespaces(&self.without_consent.namespaces).map_err(below)
    }
}

fn check_namespaces(namespaces: &[String]) -> Result<(), Invalid> {
    NAMESPACE_COUNT.list("namespaces", namespaces)?;
    for (index, name) in namespaces.iter().enumerate() {
        namespace::check(format!("namespaces[{index}]"), name)?;
    }
    Ok(())
}

impl Resource {
    /// Whether this is a valid resource with this id; what it is known by is the answer.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self, id: &str) -> Result<ResourceUri, Invalid> {
        client::check_id("id", id)?;
        let uri =
            ResourceUri::parse(&self.resource).map_err(|error| Invalid::new("resource", error))?;
        RESOURCE_NAME_LENGTH.text("name", &self.name)?;
        scope::check_all(&self.scopes)?;
        scope::check_not_own(&self.scopes)?;
        principal::check_all("introspectors", &self.introspectors)?;
        let below = |error: Invalid| error.below("allowedClients");
        self.allowed_clients.check().map_err(below)?;
        Ok(uri)
    }
}

/// What a `PUT` did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It did not exist.
    Created,
    /// It existed and differed.
    Updated,
    /// It existed already; nothing was written.
    Unchanged,
}

/// The answer to a `PUT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutAnswer {
    /// What it did.
    pub outcome: Outcome,
}

/// The body of an error, of the admin API as of OAuth (RFC 6749, section 5.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// A code.
    #[serde(default)]
    pub error: String,
    /// A text for people.
    #[serde(default)]
    pub error_description: String,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resource(changes: &Value) -> Result<ResourceUri, Invalid> {
        let mut document = json!({
            "resource": "http://localhost:9001/mcp", "name": "notes",
            "scopes": [{ "name": "write", "implies": ["read"] }, { "name": "read", "description": "Read" }],
        });
        for (name, value) in changes.as_object().unwrap() {
            document[name] = value.clone();
        }
        let document: Resource = serde_json::from_value(document).unwrap();
        document.check("default.notes")
    }

    #[test]
    fn resources() {
        assert!(resource(&json!({})).is_ok());
        for (changes, key) in [
            (json!({ "resource": "/mcp" }), "resource"),
            (json!({ "resource": "https://a.example/#x" }), "resource"),
            (json!({ "resource": "https://a.example/?x" }), "resource"),
            (json!({ "resource": "https://u@a.example/" }), "resource"),
            (
                json!({ "resource": "https://a.example/x/../y" }),
                "resource",
            ),
            (json!({ "resource": "ftp://a.example" }), "resource"),
            (json!({ "name": "" }), "name"),
            (
                json!({ "scopes": [{ "name": "a" }, { "name": "a" }] }),
                "scopes[1].name",
            ),
            (
                json!({ "scopes": [{ "name": "openid" }] }),
                "scopes[0].name",
            ),
            (
                json!({ "scopes": [{ "name": "a", "implies": ["b"] }] }),
                "scopes[0].implies[0]",
            ),
            (json!({ "introspectors": [""] }), "introspectors[0]"),
            (
                json!({ "allowedClients": { "namespaces": ["team a"] } }),
                "allowedClients.namespaces[0]",
            ),
            (
                json!({ "allowedClients": { "withoutConsent": { "namespaces": [""] } } }),
                "allowedClients.withoutConsent.namespaces[0]",
            ),
        ] {
            assert_eq!(resource(&changes).unwrap_err().key, key);
        }
        for good in [
            "https://a.example",
            "https://A.example:443/",
            "https://a.example/x/",
        ] {
            let uri = resource(&json!({ "resource": good })).unwrap();
            assert_eq!(uri.as_str(), good);
        }
    }

    #[test]
    fn answers_are_read_as_they_are_written() {
        let answer = PutAnswer {
            outcome: Outcome::Unchanged,
        };
        let text = serde_json::to_string(&answer).unwrap();
        assert_eq!(text, r#"{"outcome":"unchanged"}"#);
        assert_eq!(serde_json::from_str::<PutAnswer>(&text).unwrap(), answer);
        assert_eq!(Collection::Clients.path("a_b"), "/admin/v1/clients/a_b");
        // Another program may sit at that address.
        assert_eq!(
            serde_json::from_str::<ErrorAnswer>("{}").unwrap(),
            ErrorAnswer::default()
        );
    }
}
