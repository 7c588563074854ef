//! Protected resources: MCP servers that access tokens are for (RFC 8707).

use mcpauth_wire::scope::Hierarchy;
use mcpauth_wire::{ResourceUri, Scopes};
use serde::{Deserialize, Serialize};

use crate::oauth::admission::AllowedClients;

/// A protected resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The name under which it is administered.
    pub id: String,
    /// Its URI as it was declared: the audience of its tokens. No other resource has an equal one, see
    /// [`ResourceUri`].
    pub resource: String,
    /// Shown on the consent page.
    pub name: String,
    /// The scopes that it knows.
    pub scopes: Vec<ResourceScope>,
    /// The principals that may introspect its tokens.
    pub introspectors: Vec<String>,
    /// Whose clients may get tokens for it.
    pub allowed_clients: AllowedClients,
}

/// A scope of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceScope {
    /// Its name, RFC 6749, section 3.3.
    pub name: String,
    /// Shown on the consent page.
    pub description: String,
    /// Scopes that this one includes.
    pub implies: Vec<String>,
}

impl Resource {
    /// Whether this URI names the resource, in any equal spelling.
    pub fn is_named_by(&self, uri: &ResourceUri) -> bool {
        uri.is_named_by(&self.resource)
    }

    /// The names of all its scopes.
    pub fn scope_names(&self) -> Scopes {
        names(&self.scopes)
    }

    /// These scopes with all that they imply, however deep.
    pub fn with_implied(&self, scopes: &Scopes) -> Scopes {
        with_implied(&self.scopes, scopes)
    }
}

/// The names of these scopes of a resource.
pub fn names(known: &[ResourceScope]) -> Scopes {
    known.iter().map(|scope| scope.name.clone()).collect()
}

/// These scopes with all that they imply at a resource that knows `known`.
pub fn with_implied(known: &[ResourceScope], scopes: &Scopes) -> Scopes {
    let implied = known.iter();
    let implied = implied.map(|scope| (scope.name.as_str(), scope.implies.as_slice()));
    Hierarchy::new(implied).with_implied(scopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn implied_scopes_are_followed_to_the_end_and_cycles_end() {
        let scope = |name: &str, implies: &[&str]| ResourceScope {
            name: name.into(),
            description: String::new(),
            implies: implies.iter().map(ToString::to_string).collect(),
        };
        let resource = Resource {
            id: "default.notes".into(),
            resource: "http://localhost:9001/mcp".into(),
            name: "notes".into(),
            scopes: vec![
                scope("admin", &["write"]),
                scope("write", &["read"]),
                scope("read", &["write"]),
            ],
            introspectors: vec![],
            allowed_clients: AllowedClients::default(),
        };
        let expand = |text: &str| {
            let scopes = Scopes::parse(text).unwrap();
            resource.with_implied(&scopes).to_string()
        };
        assert_eq!(expand("admin"), "admin read write");
        assert_eq!(expand("read"), "read write");
        assert_eq!(expand("other"), "other");
        assert_eq!(expand(""), "");
    }
}
