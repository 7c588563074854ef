//! Who owns an object, and so whether a controller may write it.
//!
//! A child is owned: created, written and deleted for one of our objects, which [`Ownership`] records on it. Into other
//! objects, such as pods, only some fields are injected; they are never claimed or deleted
//! ([`Applier::inject`](super::apply::Applier::inject)).

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

/// Who owns an object, from the point of view of one of our objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This object.
    Ours,
    /// A deleted object of the same kind and name; it will be garbage-collected.
    Orphan,
    /// Another owner, or none.
    Foreign,
}

/// How ownership is recorded on an object.
#[derive(Clone, Debug)]
pub enum Ownership {
    /// By its controller owner reference: it is garbage-collected with its owner.
    Controller(OwnerReference),
    /// Only by its labels: it may outlive its owner, and the next owner of that name reuses it, as after a
    /// restore from a backup. The finalizer deletes what must not be kept.
    Labels {
        /// The owner's UID.
        owner: String,
        /// The labels that identify the owner.
        labels: BTreeMap<String, String>,
    },
}

impl Ownership {
    /// The owner's UID.
    pub fn owner(&self) -> &str {
        match self {
            Self::Controller(owner) => &owner.uid,
            Self::Labels { owner, .. } => owner,
        }
    }

    /// Who owns an existing object.
    pub fn of(&self, meta: &ObjectMeta) -> Whose {
        if self.holds(meta) {
            Whose::Ours
        } else if self.held_before(meta) {
            Whose::Orphan
        } else {
            Whose::Foreign
        }
    }

    fn holds(&self, meta: &ObjectMeta) -> bool {
        let mut controllers = meta.owner_references.iter().flatten();
        let controller = controllers.find(|o| o.controller == Some(true));
        match self {
            Self::Controller(owner) => controller.is_some_and(|o| o.uid == owner.uid),
            Self::Labels { labels, .. } => {
                let carried = meta.labels.as_ref();
                controller.is_none()
                    && carried.is_some_and(|carried| {
                        labels
                            .iter()
                            .all(|(key, value)| carried.get(key) == Some(value))
                    })
            }
        }
    }

    /// Whether its controller is an object of the owner's kind and name, but not the owner itself.
    fn held_before(&self, meta: &ObjectMeta) -> bool {
        let Self::Controller(owner) = self else {
            return false;
        };
        meta.owner_references.iter().flatten().any(|o| {
            let same = o.kind == owner.kind && o.name == owner.name;
            o.controller == Some(true) && same && o.uid != owner.uid
        })
    }

    /// Records it on a child.
    pub fn put_on(&self, meta: &mut ObjectMeta) {
        match self {
            Self::Controller(owner) => meta.owner_references = Some(vec![owner.clone()]),
            Self::Labels { labels, .. } => {
                meta.owner_references = None;
                let carried = meta.labels.get_or_insert_default();
                carried.extend(labels.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: &str) -> OwnerReference {
        OwnerReference {
            uid: uid.into(),
            controller: Some(true),
            kind: "McpAuthServer".into(),
            name: "auth".into(),
            ..OwnerReference::default()
        }
    }

    #[test]
    fn only_the_controller_reference_with_our_uid_makes_a_child_ours() {
        let ownership = Ownership::Controller(owner("u1"));
        let mut meta = ObjectMeta::default();
        assert!(!ownership.holds(&meta));
        meta.owner_references = Some(vec![owner("u2")]);
        assert!(!ownership.holds(&meta));
        meta.owner_references = Some(vec![OwnerReference {
            controller: None,
            ..owner("u1")
        }]);
        assert!(!ownership.holds(&meta));
        meta.owner_references = Some(vec![owner("u1")]);
        assert!(ownership.holds(&meta));
    }

    #[test]
    fn what_may_outlive_its_owner_is_taken_up_by_its_labels() {
        let labels = |name: &str| BTreeMap::from([("mcpauth.io/auth-server".into(), name.into())]);
        let ownership = |uid: &str| Ownership::Labels {
            owner: uid.into(),
            labels: labels("auth"),
        };
        let mut meta = ObjectMeta {
            owner_references: Some(vec![owner("u1")]),
            ..ObjectMeta::default()
        };
        ownership("u1").put_on(&mut meta);
        assert_eq!(meta.owner_references, None);
        assert_eq!(ownership("u1").of(&meta), Whose::Ours);
        assert_eq!(ownership("u2").of(&meta), Whose::Ours, "restored");
        meta.owner_references = Some(vec![owner("u2")]);
        assert_eq!(
            ownership("u2").of(&meta),
            Whose::Foreign,
            "has a controller"
        );
        let theirs = ObjectMeta {
            labels: Some(labels("other")),
            ..ObjectMeta::default()
        };
        assert_eq!(ownership("u1").of(&theirs), Whose::Foreign);
        assert_eq!(ownership("u1").of(&ObjectMeta::default()), Whose::Foreign);
    }

    #[test]
    fn what_an_object_of_the_same_name_had_is_an_orphan() {
        let ownership = Ownership::Controller(owner("u1"));
        let whose = |references| {
            ownership.of(&ObjectMeta {
                owner_references: references,
                ..ObjectMeta::default()
            })
        };
        assert_eq!(whose(Some(vec![owner("u1")])), Whose::Ours);
        assert_eq!(whose(Some(vec![owner("u0")])), Whose::Orphan);
        let other = OwnerReference {
            name: "other".into(),
            ..owner("u0")
        };
        assert_eq!(whose(Some(vec![other])), Whose::Foreign);
        assert_eq!(whose(None), Whose::Foreign);
    }
}
