//! Remembers what this process wrote, so that an unchanged child is not written again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use serde::Serialize;
use serde_json::Value;

use crate::text::hex;

/// How many children are remembered for each owner: some are made anew with each change of it, and the oldest are gone.
const CHILDREN: usize = 64;

/// SHA-256 of what someone could have changed of a child.
pub type Fingerprint = [u8; 32];

/// A fingerprint of each child after its last write by this process, by owner and child, to detect changes by others.
/// Without an entry (after a restart) a child that [`contains`] what is desired counts as written.
#[derive(Debug, Default)]
pub struct Written(Mutex<HashMap<Box<str>, Vec<Child>>>);

#[derive(Debug)]
struct Child {
    uid: Box<str>,
    fingerprint: Fingerprint,
}

impl Written {
    /// Whether the child was recorded with this fingerprint.
    pub fn is(&self, owner: &str, uid: &str, fingerprint: &Fingerprint) -> bool {
        self.get(owner, uid).as_ref() == Some(fingerprint)
    }

    /// Whether the child was recorded.
    pub fn knows(&self, owner: &str, uid: &str) -> bool {
        self.get(owner, uid).is_some()
    }

    fn get(&self, owner: &str, uid: &str) -> Option<Fingerprint> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut children = map.get(owner)?.iter();
        let child = children.find(|child| *child.uid == *uid)?;
        Some(child.fingerprint)
    }

    /// Forgets a child.
    pub fn unset(&self, owner: &str, uid: &str) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(children) = map.get_mut(owner) {
            children.retain(|child| *child.uid != *uid);
        }
    }

    /// Records a child.
    pub fn set(&self, owner: &str, uid: &str, fingerprint: Fingerprint) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let children = map.entry(owner.into()).or_default();
        match children.iter_mut().find(|child| *child.uid == *uid) {
            Some(child) => child.fingerprint = fingerprint,
            None => {
                if children.len() == CHILDREN {
                    children.remove(0);
                }
                children.push(Child {
                    uid: uid.into(),
                    fingerprint,
                });
            }
        }
    }

    /// Forgets the children of a deleted owner.
    pub fn forget(&self, owner: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(owner);
    }
}

/// A hash of everything that someone could have changed: all but the status and the metadata that the API server
/// maintains itself.
pub fn fingerprint<K: Serialize>(live: &K) -> Result<Fingerprint, serde_json::Error> {
    let mut value = serde_json::to_value(live)?;
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
        if let Some(Value::Object(meta)) = object.get_mut("metadata") {
            for field in ["resourceVersion", "managedFields", "generation"] {
                meta.remove(field);
            }
        }
    }
    Ok(digest_of(&serde_json::to_vec(&value)?))
}

/// Fields that server-side apply replaces as a whole, and that decide which pods are meant: an addition to one of them
/// would take pods out of a NetworkPolicy or a Service, or let more of them in.
const WHOLE: [&str; 6] = [
    "selector",
    "podSelector",
    "namespaceSelector",
    "nodeSelector",
    "ingress",
    "egress",
];

/// Whether `live` has every field of `desired`, with its value; what the API server or others added does not matter,
/// except to the fields in [`WHOLE`].
/// A value that the API server writes in another form counts as missing, which costs no more than a write.
pub fn contains(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(key, value)| {
            live.get(key).map_or_else(
                || is_empty(value),
                |live| match WHOLE.contains(&key.as_str()) {
                    // Exactly: an empty selector and none differ.
                    true => live == value,
                    false => contains(live, value),
                },
            )
        }),
        (Value::Array(live), Value::Array(desired)) => {
            let pairs = || live.iter().zip(desired);
            live.len() == desired.len() && pairs().all(|(live, desired)| contains(live, desired))
        }
        (live, desired) => live == desired,
    }
}

/// Whether the API server may leave a value out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&digest_of(bytes))
}

fn digest_of(bytes: &[u8]) -> Fingerprint {
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    fingerprint
}

#[cfg(test)]
pub(super) mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    pub(in crate::framework) fn config_map() -> ConfigMap {
        serde_json::from_value(json!({
            "metadata": { "name": "c", "namespace": "n", "resourceVersion": "1", "generation": 1 },
            "data": { "a": "1" }
        }))
        .unwrap()
    }

    #[test]
    fn the_last_children_of_an_owner_are_remembered() {
        let written = Written::default();
        for child in 0..1000_u16 {
            written.set("owner", &child.to_string(), [child.to_be_bytes()[1]; 32]);
        }
        assert!(written.is("owner", "999", &[231; 32]) && !written.is("owner", "999", &[0; 32]));
        assert!(written.knows("owner", "936") && !written.knows("owner", "935"));
        written.unset("owner", "999");
        assert!(!written.knows("owner", "999") && written.knows("owner", "998"));
        written.forget("owner");
        assert!(!written.knows("owner", "998"));
    }

    #[test]
    fn what_is_desired_is_found_in_what_is_stored_with_defaults() {
        let desired = json!({ "a": { "b": [{ "c": 1 }] }, "labels": {}, "none": null });
        for (live, expected) in [
            (
                json!({ "a": { "b": [{ "c": 1, "default": true }] }, "status": 1 }),
                true,
            ),
            (json!({ "a": { "b": [{ "c": 2 }] } }), false),
            (json!({ "a": { "b": [{ "c": 1 }, { "c": 1 }] } }), false),
            (json!({ "a": {} }), false),
            (json!({}), false),
        ] {
            assert_eq!(contains(&live, &desired), expected, "{live}");
        }
    }

    #[test]
    fn an_addition_to_a_selector_is_a_change() {
        let policy =
            |selector, from| json!({ "podSelector": selector, "ingress": [{ "from": [from] }] });
        let pods = json!({ "matchLabels": { "a": "1" } });
        let desired = policy(pods.clone(), json!({ "podSelector": pods }));
        assert!(contains(&desired, &desired));
        let narrowed = json!({ "matchLabels": { "a": "1", "b": "2" } });
        let widened =
            json!({ "podSelector": pods, "namespaceSelector": { "matchLabels": { "c": "3" } } });
        let everywhere = json!({ "podSelector": pods, "namespaceSelector": {} });
        for (live, what) in [
            (policy(narrowed, json!({ "podSelector": pods })), "narrowed"),
            (policy(pods.clone(), widened), "widened"),
            (policy(pods.clone(), everywhere), "every namespace"),
        ] {
            assert!(!contains(&live, &desired), "{what}");
        }
        let all = json!({ "podSelector": {} });
        assert!(!contains(&json!({ "podSelector": pods }), &all));
    }

    #[test]
    fn the_fingerprint_ignores_what_the_api_server_counts_and_sees_the_rest() {
        let mut counted = config_map();
        counted.metadata.resource_version = Some("2".into());
        counted.metadata.generation = Some(2);
        assert_eq!(
            fingerprint(&config_map()).unwrap(),
            fingerprint(&counted).unwrap()
        );

        let mut touched = config_map();
        touched
            .data
            .get_or_insert_default()
            .insert("b".into(), "2".into());
        assert_ne!(
            fingerprint(&config_map()).unwrap(),
            fingerprint(&touched).unwrap()
        );
    }
}
