//! Who may connect to pods, where the cluster's network enforces it.

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::labels::{Component, Owner};

/// Admits connections to these TCP ports of the component's pods and to no other: from everywhere, or from
/// the pods of one other component of the same owner.
pub fn build(
    owner: &Owner,
    name: String,
    component: Component,
    ports: &[u16],
    from: Option<Component>,
) -> NetworkPolicy {
    let port = |port: &u16| NetworkPolicyPort {
        protocol: Some("TCP".to_owned()),
        port: Some(IntOrString::Int((*port).into())),
        end_port: None,
    };
    let peer = |component| NetworkPolicyPeer {
        pod_selector: Some(owner.selector(component)),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicy {
        metadata: owner.child(name, component),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(owner.selector(component)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: from.map(|component| vec![peer(component)]),
                ports: Some(ports.iter().map(port).collect()),
            }]),
            egress: None,
        }),
    }
}
