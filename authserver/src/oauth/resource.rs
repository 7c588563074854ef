//! Protected resources: MCP servers that access tokens are for (RFC 8707).

use serde::{Deserialize, Serialize};

use crate::oauth::scope::Scopes;

/// A protected resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The name under which it is administered.
    pub id: String,
    /// Its URI: the audience of its tokens. Unique.
    pub resource: String,
    /// Shown on the consent page.
    pub name: String,
    /// The scopes that it knows.
    pub scopes: Vec<ResourceScope>,
    /// The principals that may introspect its tokens.
    pub introspectors: Vec<String>,
}

/// A scope of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResourceScope {
    /// Its name, RFC 6749, section 3.3.
    pub name: String,
    /// Shown on the consent page.
    pub description: String,
    /// Scopes that whoever has this one has, too.
    pub implies: Vec<String>,
}

impl Resource {
    /// The names of all its scopes.
    pub fn scope_names(&self) -> Scopes {
        self.scopes.iter().map(|scope| scope.name.clone()).collect()
    }

    /// These scopes with all that they imply, however deep.
    pub fn with_implied(&self, scopes: &Scopes) -> Scopes {
        let mut names: Vec<&str> = scopes.iter().collect();
        let mut at = 0;
        while let Some(name) = names.get(at).copied() {
            let implied = self
                .scopes
                .iter()
                .filter(|scope| scope.name == name)
                .flat_map(|scope| &scope.implies);
            for implied in implied {
                if !names.contains(&implied.as_str()) {
                    names.push(implied);
                }
            }
            at += 1;
        }
        names.into_iter().collect()
    }
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
