//! Remembers what this process wrote, so that an unchanged child is not written again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use serde::Serialize;
use serde_json::Value;

use crate::text::hex;

/// A fingerprint of each child after its last write by this process, by owner and child, to detect changes by others.
/// Without an entry (after a restart) the child is applied once, which is a no-op for the API server if nothing changed.
#[derive(Debug, Default)]
pub struct Written(Mutex<HashMap<String, HashMap<String, String>>>);

impl Written {
    /// Whether the child was recorded with this fingerprint.
    pub fn is(&self, owner: &str, child: &str, fingerprint: &str) -> bool {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(owner)
            .and_then(|children| children.get(child))
            .is_some_and(|f| f == fingerprint)
    }

    /// Records a child.
    pub fn set(&self, owner: &str, child: String, fingerprint: String) {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.entry(owner.to_owned())
            .or_default()
            .insert(child, fingerprint);
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
pub fn fingerprint<K: Serialize>(live: &K) -> Result<String, serde_json::Error> {
    let mut value = serde_json::to_value(live)?;
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
        if let Some(Value::Object(meta)) = object.get_mut("metadata") {
            for field in ["resourceVersion", "managedFields", "generation"] {
                meta.remove(field);
            }
        }
    }
    Ok(sha256(&serde_json::to_vec(&value)?))
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
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
