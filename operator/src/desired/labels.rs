//! Labels and owner references of children.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;

use super::names;

/// The value of `app.kubernetes.io/managed-by` on every child.
pub const MANAGED_BY: &str = "mcp-auth-operator";

/// The component that a child belongs to: the value of its `app.kubernetes.io/name`.
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

    /// The label with the name of the object that the component belongs to.
    pub fn owner_label(self) -> &'static str {
        match self {
            Self::AuthServer | Self::Postgres => "mcpauth.io/auth-server",
            Self::McpServer => "mcpauth.io/protected-server",
            Self::OAuthClient => "mcpauth.io/oauth-client",
        }
    }
}

/// The object that owns the children.
#[derive(Clone, Debug, PartialEq)]
pub struct Owner {
    /// Its name, from which the children's names are derived.
    pub name: String,
    /// Its namespace, which is also the children's.
    pub namespace: String,
    /// The owner reference for its children.
    pub reference: OwnerReference,
}

impl Owner {
    /// `object` as owner; none if it was never stored in a cluster (no uid).
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

    /// The name of the component's Deployment, Service and other single objects.
    #[must_use]
    pub fn workload(&self, component: Component) -> String {
        match component {
            Component::AuthServer => names::auth_server(&self.name),
            Component::Postgres => names::postgres(&self.name),
            Component::McpServer | Component::OAuthClient => self.name.clone(),
        }
    }

    /// The metadata of what may outlive the owner.
    #[must_use]
    pub fn kept(&self, name: impl Into<String>, component: Component) -> ObjectMeta {
        ObjectMeta {
            labels: Some(self.kept_labels(component)),
            owner_references: None,
            ..self.child(name, component)
        }
    }

    /// The labels of a child.
    #[must_use]
    pub fn labels(&self, component: Component) -> BTreeMap<String, String> {
        let mut labels = self.kept_labels(component);
        labels.insert("app.kubernetes.io/instance".to_owned(), self.name.clone());
        labels
    }

    /// The labels of what may outlive the owner. Not the instance: by that label Argo CD recognizes what belongs to its
    /// application of that name, and prunes what has no owner and is not in Git.
    #[must_use]
    pub fn kept_labels(&self, component: Component) -> BTreeMap<String, String> {
        let mut labels = self.match_labels(component);
        labels.insert(
            "app.kubernetes.io/managed-by".to_owned(),
            MANAGED_BY.to_owned(),
        );
        labels
    }

    /// The labels that select pods. One is our own, because charts set the `app.kubernetes.io` name and instance
    /// freely. They must never change, because selectors are immutable.
    #[must_use]
    pub fn match_labels(&self, component: Component) -> BTreeMap<String, String> {
        BTreeMap::from([
            (
                "app.kubernetes.io/name".to_owned(),
                component.as_str().to_owned(),
            ),
            (component.owner_label().to_owned(), self.name.clone()),
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
