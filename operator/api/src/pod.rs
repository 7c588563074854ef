//! Fields about pods and Services that several kinds share.

use std::{borrow::Cow, collections::BTreeMap};

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::kubernetes;

/// Overrides that are merged into the pods that the operator renders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodTemplate {
    /// Labels and annotations of the pods, in addition to those that the operator sets.
    #[serde(default)]
    pub metadata: PodMetadata,
    /// A PodSpec. Containers, volumes and other entries with a name are merged by name, other lists are
    /// replaced, and nothing is removed. Unknown fields, and fields that would weaken the isolation of the
    /// operator-managed containers, are rejected: the Ready condition names them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "kubernetes::decoded_by_the_operator")]
    pub spec: Map<String, Value>,
}

/// Labels and annotations of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodMetadata {
    /// Labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 64,
        "additionalProperties" = {"type": "string", "maxLength": 63}
    ))]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 64,
        "additionalProperties" = {"type": "string", "maxLength": 4096}
    ))]
    pub annotations: BTreeMap<String, String>,
}

/// Compute resources of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Amounts that the container is guaranteed, by resource name (`cpu`, `memory`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub requests: BTreeMap<String, Quantity>,
    /// Maximum amounts that the container may use, by resource name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub limits: BTreeMap<String, Quantity>,
}

/// A Kubernetes quantity such as `500m`, `1` or `1Gi`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quantity(pub String);

/// What Kubernetes accepts as a quantity, as a regular expression.
const QUANTITY: &str = r"^([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)(([KMGTPE]i)|[numkMGTPE]|([eE][0-9]+))?$";

impl Quantity {
    /// The number that the text represents, with the precision of a float; none when it is not a quantity.
    #[must_use]
    pub fn value(&self) -> Option<f64> {
        if let Ok(number) = self.0.parse() {
            // An exponent is allowed, too.
            return Some(number);
        }
        let number = self.0.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let factor = match &self.0[number.len()..] {
            "n" => 1e-9,
            "u" => 1e-6,
            "m" => 1e-3,
            "k" => 1e3,
            "M" => 1e6,
            "G" => 1e9,
            "T" => 1e12,
            "P" => 1e15,
            "E" => 1e18,
            "Ki" => 1024_f64,
            "Mi" => 1024_f64.powi(2),
            "Gi" => 1024_f64.powi(3),
            "Ti" => 1024_f64.powi(4),
            "Pi" => 1024_f64.powi(5),
            "Ei" => 1024_f64.powi(6),
            _ => return None,
        };
        Some(number.parse::<f64>().ok()? * factor)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    /// Takes a string or an integer: YAML's `cpu: 1` is the latter.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum IntOrString {
            Int(u64),
            String(String),
        }
        Ok(Self(match IntOrString::deserialize(deserializer)? {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(text) => text,
        }))
    }
}

impl JsonSchema for Quantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Quantity".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A Kubernetes quantity such as `500m`, `1` or `1Gi`.",
            "x-kubernetes-int-or-string": true,
            "maxLength": 32,
            "pattern": QUANTITY,
        })
    }
}

/// The Service that clients connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.nodePort) || self.type != 'ClusterIP'").message("nodePort requires type: NodePort or type: LoadBalancer"))]
#[x_kube(validation = Rule::new("!has(self.externalTrafficPolicy) || self.type != 'ClusterIP'").message("externalTrafficPolicy requires type: NodePort or type: LoadBalancer"))]
#[x_kube(validation = Rule::new("!has(self.loadBalancerClass) || self.type == 'LoadBalancer'").message("loadBalancerClass requires type: LoadBalancer"))]
#[x_kube(validation = Rule::new("!has(self.loadBalancerSourceRanges) || self.type == 'LoadBalancer'").message("loadBalancerSourceRanges requires type: LoadBalancer"))]
pub struct Service {
    /// How the Service is published.
    #[serde(default, rename = "type")]
    pub type_: ServiceType,
    /// The port of the Service.
    #[serde(default = "port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The port on every node. Kubernetes allocates one when it is omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<u16>,
    /// Annotations of the Service, such as those that a load balancer's controller reads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 64,
        "additionalProperties" = {"type": "string", "maxLength": 4096}
    ))]
    pub annotations: BTreeMap<String, String>,
    /// Labels of the Service, in addition to those that the operator sets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "maxProperties" = 64,
        "additionalProperties" = {"type": "string", "maxLength": 63}
    ))]
    pub labels: BTreeMap<String, String>,
    /// The class of the load balancer's controller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316))]
    pub load_balancer_class: Option<String>,
    /// Client networks that the load balancer accepts connections from, such as `192.0.2.0/24`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 43)))]
    pub load_balancer_source_ranges: Vec<String>,
    /// Whether nodes forward external connections to pods on other nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Whether the Service is single-stack or dual-stack. Defaults to the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// Whether connections from the same client go to the same pod.
    #[serde(default)]
    pub session_affinity: SessionAffinity,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            type_: ServiceType::default(),
            port: port(),
            node_port: None,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            load_balancer_class: None,
            load_balancer_source_ranges: Vec::new(),
            external_traffic_policy: None,
            ip_family_policy: None,
            session_affinity: SessionAffinity::default(),
        }
    }
}

fn port() -> u16 {
    80
}

/// Defines the values of a Kubernetes field, spelled like their names here.
macro_rules! values {
    ($(#[$doc:meta])* $name:ident { $($(#[$value_doc:meta])* $value:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$value_doc])* $value,)*
        }

        impl $name {
            /// The value as Kubernetes writes it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => stringify!($value),)*
                }
            }
        }
    };
}

values! {
    /// How a Service is published.
    ServiceType {
        /// Inside the cluster only.
        #[default]
        ClusterIP,
        /// On a port of every node.
        NodePort,
        /// Through the platform's load balancer.
        LoadBalancer,
    }
}

values! {
    /// Where nodes forward external connections.
    ExternalTrafficPolicy {
        /// To any pod. The client's address is lost.
        #[default]
        Cluster,
        /// To pods on the same node. The client's address is preserved.
        Local,
    }
}

values! {
    /// The IP families of a Service.
    IpFamilyPolicy {
        /// One IP family.
        #[default]
        SingleStack,
        /// Both IP families where the cluster supports them.
        PreferDualStack,
        /// Both IP families.
        RequireDualStack,
    }
}

values! {
    /// Where connections from the same client go.
    SessionAffinity {
        /// To any pod.
        #[default]
        None,
        /// To the same pod, by the client's address.
        ClientIP,
    }
}

values! {
    /// When an image is pulled.
    ImagePullPolicy {
        /// Before every start.
        Always,
        /// Only if it is not present on the node.
        #[default]
        IfNotPresent,
        /// Never. It must already be present on the node.
        Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_a_value() {
        for (text, value) in [
            ("1", 1.0),
            ("0.5", 0.5),
            ("250m", 0.25),
            ("2k", 2e3),
            ("64Mi", 67_108_864.0),
            ("1.5Gi", 1_610_612_736.0),
            ("1e3", 1e3),
            ("2E", 2e18),
        ] {
            assert_eq!(Quantity(text.to_owned()).value(), Some(value), "{text}");
        }
        for text in ["", "Mi", "1Q", "x"] {
            assert_eq!(Quantity(text.to_owned()).value(), None, "{text}");
        }
    }
}
