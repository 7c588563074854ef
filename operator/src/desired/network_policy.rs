//! Who may connect to pods, if the cluster enforces NetworkPolicies.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::labels::{Component, MANAGED_BY, Owner};

/// Allows only the connections to the component's pods that match `rules`.
pub fn build(
    owner: &Owner,
    name: String,
    component: Component,
    rules: Vec<NetworkPolicyIngressRule>,
) -> NetworkPolicy {
    NetworkPolicy {
        metadata: owner.child(name, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(owner.selector(component)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(rules),
            egress: None,
        }),
    }
}

/// Allows connections to these TCP ports from everywhere.
pub fn everybody(ports: &[u16]) -> NetworkPolicyIngressRule {
    let port = |port: &u16| NetworkPolicyPort {
        protocol: Some("TCP".to_owned()),
        port: Some(IntOrString::Int((*port).into())),
        end_port: None,
    };
    NetworkPolicyIngressRule {
        from: None,
        ports: Some(ports.iter().map(port).collect()),
    }
}

/// Allows connections to this TCP port from these peers.
pub fn only(port: u16, from: Vec<NetworkPolicyPeer>) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: Some(from),
        ..everybody(&[port])
    }
}

/// The pods of another component of the same owner.
pub fn pods_of(owner: &Owner, component: Component) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        pod_selector: Some(owner.selector(component)),
        ..NetworkPolicyPeer::default()
    }
}

/// The proxies of all ProtectedMcpServers, in any namespace.
pub fn proxies() -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(LabelSelector::default()),
        pod_selector: Some(labels([
            ("app.kubernetes.io/name", Component::McpServer.as_str()),
            ("app.kubernetes.io/managed-by", MANAGED_BY),
        ])),
        ip_block: None,
    }
}

/// All pods of a namespace.
pub fn namespace(name: &str) -> NetworkPolicyPeer {
    NetworkPolicyPeer {
        namespace_selector: Some(labels([("kubernetes.io/metadata.name", name)])),
        ..NetworkPolicyPeer::default()
    }
}

fn labels<const N: usize>(labels: [(&str, &str); N]) -> LabelSelector {
    let owned = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    LabelSelector {
        match_labels: Some(BTreeMap::from(owned)),
        match_expressions: None,
    }
}
