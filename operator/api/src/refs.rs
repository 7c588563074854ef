//! References from one object to another.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names of namespaces and of our kinds. References are used in URLs, so no character may be special there.
pub(crate) const LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Names of Secrets and ConfigMaps.
pub(crate) const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// Keys of Secrets and ConfigMaps.
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
    /// The namespace of the reference, for an object in the namespace `own`.
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

/// A key of a Secret or ConfigMap in the same namespace that holds the certificates of a CA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// Its key with the certificates, in PEM.
    #[serde(default = "ca_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

fn ca_key() -> String {
    "ca.crt".to_owned()
}

/// A key of a Secret in the same namespace that holds a resource server's secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallerSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// Key of the Secret with a random value of 22 to 512 printable characters, such as from
    /// `openssl rand -hex 32`.
    #[serde(default = "secret_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

fn secret_key() -> String {
    "secret".to_owned()
}

/// A key of a Secret in the same namespace that holds an initial access token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InitialAccessTokenSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// Key of the Secret with a random value of 22 to 512 printable characters, such as from
    /// `openssl rand -hex 32`.
    #[serde(default = "token_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

fn token_key() -> String {
    "token".to_owned()
}

/// A key of a Secret in the same namespace that holds HTTP headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeadersSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
    /// Key of the Secret with 1 to 16 lines `NAME: VALUE`.
    #[serde(default = "headers_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SECRET_KEY))]
    pub key: String,
}

fn headers_key() -> String {
    "headers".to_owned()
}

/// A reference to a Secret in the same namespace that holds a pepper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeysSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// A reference to a Secret in the same namespace that holds a certificate, of the type `kubernetes.io/tls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = SUBDOMAIN))]
    pub name: String,
}

/// A reference to a ProtectedMcpServer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerRef {
    /// Name of the ProtectedMcpServer.
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub name: String,
    /// Namespace of the ProtectedMcpServer. Defaults to the object's own namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = LABEL))]
    pub namespace: Option<String>,
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

/// A set of namespaces. It always includes the object's own namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)").message("selector is required with from: Selector, and not allowed otherwise"))]
pub struct AllowedNamespaces {
    /// `Same` for the object's own namespace, `All`, or `Selector` for those that `selector` matches.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Selects namespaces by label, with `from: Selector`. Not available if the operator watches only
    /// certain namespaces: list `names` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
    /// Additional namespaces, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 63), regex(pattern = LABEL))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Vec<String>,
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

/// A set of namespaces, empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)").message("selector is required with from: Selector, and not allowed otherwise"))]
pub struct TrustedNamespaces {
    /// `None`, `Same` for the object's own namespace, `All`, or `Selector` for those that `selector`
    /// matches.
    #[serde(default)]
    pub from: TrustedFrom,
    /// Selects namespaces by label, with `from: Selector`. Not available if the operator watches only
    /// certain namespaces: list `names` then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<NamespaceSelector>,
    /// Additional namespaces, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 63), regex(pattern = LABEL))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Vec<String>,
}

/// Which namespaces are trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TrustedFrom {
    /// No namespace.
    #[default]
    None,
    /// Only the object's own namespace.
    Same,
    /// Every namespace.
    All,
    /// The namespaces that the selector matches.
    Selector,
}

/// Selects namespaces by their labels, like Kubernetes' LabelSelector. It must not be empty, because
/// it would then match every namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)").message("selector must not be empty: it would match every namespace; use from: All for that"))]
pub struct NamespaceSelector {
    /// Labels that a namespace must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 16,
        "additionalProperties" = {"type": "string", "maxLength": 63}
    ))]
    pub match_labels: BTreeMap<String, String>,
    /// Requirements that a namespace's labels must meet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub match_expressions: Vec<LabelRequirement>,
}

/// A requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)").message("values is required with operator: In or NotIn, and not allowed otherwise"))]
pub struct LabelRequirement {
    /// The key of the label.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// How the label relates to `values`.
    pub operator: LabelOperator,
    /// The values to compare with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub values: Vec<String>,
}

/// How a label relates to values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// It has one of them.
    In,
    /// It has none of them, or the label is missing.
    NotIn,
    /// The label exists.
    Exists,
    /// The label is missing.
    DoesNotExist,
}

impl AllowedNamespaces {
    /// Whether the namespace `other`, which carries `labels`, is allowed by an object in the namespace
    /// `own`.
    #[must_use]
    pub fn admits(&self, own: &str, other: &str, labels: &BTreeMap<String, String>) -> bool {
        if own == other || self.names.iter().any(|name| name == other) {
            return true;
        }
        match self.from {
            NamespacesFrom::Same => false,
            NamespacesFrom::All => true,
            NamespacesFrom::Selector => {
                let selector = self.selector.as_ref();
                selector.is_some_and(|selector| selector.matches(labels))
            }
        }
    }
}

impl NamespaceSelector {
    /// Whether it matches these labels. An empty one matches nothing.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        if self.match_labels.is_empty() && self.match_expressions.is_empty() {
            return false;
        }
        let mut equal = self.match_labels.iter();
        equal.all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|r| r.is_met(labels))
    }
}

impl LabelRequirement {
    fn is_met(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            LabelOperator::In => listed,
            LabelOperator::NotIn => !listed,
            LabelOperator::Exists => value.is_some(),
            LabelOperator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn names_are_admitted_whatever_from_says() {
        let allowed: AllowedNamespaces =
            serde_json::from_value(serde_json::json!({ "names": ["b"] })).unwrap();
        assert!(allowed.admits("a", "b", &labels(&[])));
        assert!(!allowed.admits("a", "c", &labels(&[])));
    }

    #[test]
    fn a_selector_is_kubernetes_own() {
        let matches = |selector: serde_json::Value, pairs: &[(&str, &str)]| {
            let selector: NamespaceSelector = serde_json::from_value(selector).unwrap();
            let allowed = AllowedNamespaces {
                from: NamespacesFrom::Selector,
                selector: Some(selector),
                names: Vec::new(),
            };
            allowed.admits("a", "b", &labels(pairs))
        };
        let both = serde_json::json!({ "matchLabels": { "team": "x", "env": "prod" } });
        assert!(matches(
            both.clone(),
            &[("team", "x"), ("env", "prod"), ("z", "")]
        ));
        assert!(!matches(both.clone(), &[("team", "x")]));
        assert!(!matches(both, &[("team", "x"), ("env", "dev")]));
        let with = |operator: &str, values: &[&str]| {
            let requirement =
                serde_json::json!({ "key": "env", "operator": operator, "values": values });
            serde_json::json!({ "matchExpressions": [requirement] })
        };
        for (selector, prod, dev, none) in [
            (with("In", &["prod", "test"]), true, false, false),
            (with("NotIn", &["prod", "test"]), false, true, true),
            (with("Exists", &[]), true, true, false),
            (with("DoesNotExist", &[]), false, false, true),
        ] {
            assert_eq!(
                matches(selector.clone(), &[("env", "prod")]),
                prod,
                "{selector}"
            );
            assert_eq!(
                matches(selector.clone(), &[("env", "dev")]),
                dev,
                "{selector}"
            );
            assert_eq!(matches(selector.clone(), &[]), none, "{selector}");
        }
    }

    #[test]
    fn a_selector_that_is_missing_or_empty_admits_nobody() {
        let mut allowed = AllowedNamespaces {
            from: NamespacesFrom::Selector,
            selector: None,
            names: Vec::new(),
        };
        assert!(!allowed.admits("a", "b", &labels(&[])));
        allowed.selector = Some(NamespaceSelector::default());
        assert!(!allowed.admits("a", "b", &labels(&[])));
    }
}
