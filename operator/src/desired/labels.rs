//! Labels and owner references of children.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;

/// The value of `app.kubernetes.io/managed-by` on every child.
pub const MANAGED_BY: &str = "mcp-auth-operator";

/// What a child is: the value of its `app.kubernetes.io/name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The authorization server.
    AuthServer,
    /// A protected MCP server with its proxy.
    McpServer,
    /// The managed PostgreSQL.
    Postgres,
    /// The credentials of an OAuth client.
    OAuthClient,
}

impl Component {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AuthServer => "mcp-authserver",
            Self::McpServer => "mcp-server",
            Self::Postgres => "postgres",
            Self::OAuthClient => "oauth-client",
        }
    }
}

/// The object that children belong to.
#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    /// Its name, from which children's names are made.
    pub name: String,
    /// Its namespace, in which its children live.
    pub namespace: String,
    /// What children refer to it by.
    pub reference: OwnerReference,
}

impl Owner {
    /// The owner that `object` is; none when the object never was in a cluster (no uid).
    pub fn of<K: Resource<DynamicType = ()>>(object: &K) -> Option<Self> {
        Some(Self {
            name: object.meta().name.clone()?,
            namespace: object.meta().namespace.clone()?,
            reference: object.controller_owner_ref(&())?,
        })
    }

    /// The metadata of a child in the owner's namespace.
    #[must_use]
    pub fn child(&self, name: impl Into<String>, component: Component) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels(component)),
            owner_references: Some(vec![self.reference.clone()]),
            ..ObjectMeta::default()
        }
    }

    /// The labels of a child.
    #[must_use]
    pub fn labels(&self, component: Component) -> BTreeMap<String, String> {
        let mut labels = self.match_labels(component);
        labels.insert(
            "app.kubernetes.io/managed-by".to_owned(),
            MANAGED_BY.to_owned(),
        );
        labels
    }

    /// The labels by which pods are selected. They never change: selectors are immutable.
    #[must_use]
    pub fn match_labels(&self, component: Component) -> BTreeMap<String, String> {
        BTreeMap::from([
            (
                "app.kubernetes.io/name".to_owned(),
                component.as_str().to_owned(),
            ),
            ("app.kubernetes.io/instance".to_owned(), self.name.clone()),
        ])
    }

    /// Selects the pods of a component.
    #[must_use]
    pub fn selector(&self, component: Component) -> LabelSelector {
        LabelSelector {
            match_labels: Some(self.match_labels(component)),
            match_expressions: None,
        }
    }
}
