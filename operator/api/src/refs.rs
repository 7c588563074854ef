//! References from one object to another.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names of namespaces and of our kinds. References get into URLs: nothing in them may have a meaning there.
pub(crate) const LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Names of Secrets.
pub(crate) const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// Keys of Secrets.
const SECRET_KEY: &str = "^[-._a-zA-Z0-9]+$";

/// A reference to a McpAuthServer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthServerRef {
    /// Name of the McpAuthServer.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// Namespace of the McpAuthServer. Defaults to the object's own namespace. A McpAuthServer in
    /// another namespace must list this one in its allowedNamespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub namespace: Option<String>,
}

impl AuthServerRef {
    /// The namespace meant, seen from an object in `own`.
    #[must_use]
    pub fn namespace_or<'a>(&'a self, own: &'a str) -> &'a str {
        self.namespace.as_deref().unwrap_or(own)
    }
}

/// A key of a Secret in the same namespace that holds a PostgreSQL connection URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UriSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// Key of the Secret with the connection URL, `postgres://USER:PASSWORD@HOST:PORT/DB`.
    #[serde(default = "uri_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

fn uri_key() -> String {
    "uri".to_owned()
}

/// A key of a Secret in the same namespace that holds the local users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsersSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// Key of the Secret with the users as YAML: `users`, a list of `name` and `passwordHash`
    /// (argon2id in PHC format).
    #[serde(default = "users_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

fn users_key() -> String {
    "users.yaml".to_owned()
}

/// A key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// Key of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

/// The namespaces whose objects may reference a McpAuthServer. Its own namespace always may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)").message("selector is required with from: Selector, and not allowed otherwise"))]
pub struct AllowedNamespaces {
    /// `Same` for the McpAuthServer's own namespace, `All`, or `Selector` for those that `selector`
    /// matches.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Selects namespaces by label, with `from: Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
}

/// Which namespaces are allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// Only the object's own namespace.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// The namespaces that the selector matches.
    Selector,
}

/// Selects namespaces by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceSelector {
    /// Labels that a namespace must have.
    #[schemars(extend(
        "minProperties" = 1,
        "maxProperties" = 16,
        "additionalProperties" = {"type": "string", "maxLength": 63}
    ))]
    pub match_labels: std::collections::BTreeMap<String, String>,
}

impl AllowedNamespaces {
    /// Whether an object in the namespace `other`, which carries `labels`, may refer to the
    /// McpAuthServer in the namespace `own`.
    #[must_use]
    pub fn admits(
        &self,
        own: &str,
        other: &str,
        labels: &std::collections::BTreeMap<String, String>,
    ) -> bool {
        if own == other {
            return true;
        }
        match self.from {
            NamespacesFrom::Same => false,
            NamespacesFrom::All => true,
            NamespacesFrom::Selector => self.selector.as_ref().is_some_and(|selector| {
                !selector.match_labels.is_empty()
                    && selector
                        .match_labels
                        .iter()
                        .all(|(key, value)| labels.get(key) == Some(value))
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn own_namespace_is_always_admitted() {
        assert!(AllowedNamespaces::default().admits("a", "a", &labels(&[])));
    }

    #[test]
    fn a_cross_namespace_reference_without_permission_is_refused() {
        assert!(!AllowedNamespaces::default().admits("a", "b", &labels(&[])));
    }

    #[test]
    fn a_selector_needs_every_label() {
        let allowed = AllowedNamespaces {
            from: NamespacesFrom::Selector,
            selector: Some(NamespaceSelector {
                match_labels: labels(&[("team", "x"), ("env", "prod")]),
            }),
        };
        assert!(allowed.admits(
            "a",
            "b",
            &labels(&[("team", "x"), ("env", "prod"), ("z", "")])
        ));
        assert!(!allowed.admits("a", "b", &labels(&[("team", "x")])));
        assert!(!allowed.admits("a", "b", &labels(&[("team", "x"), ("env", "dev")])));
    }

    #[test]
    fn a_selector_that_is_missing_or_empty_admits_nobody() {
        let mut allowed = AllowedNamespaces {
            from: NamespacesFrom::Selector,
            selector: None,
        };
        assert!(!allowed.admits("a", "b", &labels(&[])));
        allowed.selector = Some(NamespaceSelector::default());
        assert!(!allowed.admits("a", "b", &labels(&[])));
    }
}
