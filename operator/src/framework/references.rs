//! An index of references, to find the objects that reference a changed one without a scan.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

/// An object by namespace and name.
pub type Key = (String, String);

/// What can be referenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A McpAuthServer.
    AuthServer,
    /// A ProtectedMcpServer.
    ProtectedServer,
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
    /// A Namespace, whose labels matter; its key has an empty namespace.
    Namespace,
}

/// One referenced object.
pub type Target = (Kind, Key);

#[derive(Debug, Default)]
struct Maps {
    targets: HashMap<Key, Vec<Target>>,
    referrers: HashMap<Target, HashSet<Key>>,
}

/// The references of the objects of one kind.
#[derive(Debug, Default)]
pub struct References(Mutex<Maps>);

impl References {
    /// From now on, `object` references exactly `targets`. Call it before reading them, so that no change is missed.
    pub fn set(&self, object: &Key, targets: HashSet<Target>) {
        let mut maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match targets.is_empty() {
            true => maps.targets.remove(object),
            false => {
                let targets = targets.iter().cloned().collect();
                maps.targets.insert(object.clone(), targets)
            }
        };
        let before = before.unwrap_or_default();
        for gone in before.iter().filter(|target| !targets.contains(target)) {
            if let Some(referrers) = maps.referrers.get_mut(gone) {
                referrers.remove(object);
                if referrers.is_empty() {
                    maps.referrers.remove(gone);
                }
            }
        }
        for target in targets {
            maps.referrers
                .entry(target)
                .or_default()
                .insert(object.clone());
        }
    }

    /// `object` references `more` as well. As [`Self::set`], before reading them.
    pub fn add(&self, object: &Key, more: impl IntoIterator<Item = Target>) {
        let mut maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for target in more {
            let targets = maps.targets.entry(object.clone()).or_default();
            if !targets.contains(&target) {
                targets.push(target.clone());
            }
            let referrers = maps.referrers.entry(target).or_default();
            referrers.insert(object.clone());
        }
    }

    /// The objects that reference `target`.
    pub fn referrers(&self, target: &Target) -> Vec<Key> {
        let maps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        maps.referrers
            .get(target)
            .into_iter()
            .flatten()
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        ("n".into(), name.into())
    }

    fn secret(name: &str) -> Target {
        (Kind::Secret, key(name))
    }

    #[test]
    fn finds_referrers_and_follows_changes() {
        let references = References::default();
        references.set(&key("a"), [secret("s"), secret("t")].into());
        references.set(&key("b"), [secret("s")].into());
        assert_eq!(references.referrers(&secret("s")).len(), 2);

        references.set(&key("a"), [secret("t")].into());
        assert_eq!(references.referrers(&secret("s")), [key("b")]);
        assert_eq!(references.referrers(&secret("t")), [key("a")]);

        references.add(&key("b"), [secret("u")]);
        assert_eq!(references.referrers(&secret("s")), [key("b")]);
        assert_eq!(references.referrers(&secret("u")), [key("b")]);
    }

    #[test]
    fn keeps_nothing_of_what_is_gone() {
        let references = References::default();
        references.set(&key("a"), [secret("s")].into());
        references.add(&key("a"), [secret("t")]);
        references.set(&key("a"), HashSet::new());
        let maps = references.0.lock().unwrap();
        assert!(maps.targets.is_empty() && maps.referrers.is_empty());
    }
}
