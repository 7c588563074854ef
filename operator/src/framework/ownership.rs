//! Who owns an object, and so whether a controller may write it.
//!
//! A child is owned: created, written and deleted for one of our objects, which [`Ownership`] records on it. Into other
//! objects, such as pods, only some fields are injected; they are never claimed or deleted
//! ([`Applier::inject`](super::apply::Applier::inject)).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

/// The annotation with the owner's UID, on cluster-scoped objects, which cannot have an owner reference.
pub const OWNER_UID: &str = "mcpauth.io/owner-uid";

/// Who owns an object, from the point of view of one of ours.
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
    /// By its controller owner reference: children in the owner's namespace.
    Controller(OwnerReference),
    /// By the annotation [`OWNER_UID`]: cluster-scoped children.
    Annotation(String),
}

impl Ownership {
    /// The owner's UID.
    pub fn owner(&self) -> &str {
        match self {
            Self::Controller(owner) => &owner.uid,
            Self::Annotation(uid) => uid,
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
        match self {
            Self::Controller(owner) => meta
                .owner_references
                .iter()
                .flatten()
                .any(|o| o.controller == Some(true) && o.uid == owner.uid),
            Self::Annotation(uid) => {
                meta.annotations.as_ref().and_then(|a| a.get(OWNER_UID)) == Some(uid)
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
            Self::Annotation(uid) => {
                meta.annotations
                    .get_or_insert_default()
                    .insert(OWNER_UID.to_owned(), uid.clone());
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
    fn a_cluster_scoped_child_is_tied_by_annotation() {
        let ownership = Ownership::Annotation("u1".into());
        let mut meta = ObjectMeta::default();
        assert!(!ownership.holds(&meta));
        ownership.put_on(&mut meta);
        assert!(ownership.holds(&meta));
        assert!(!Ownership::Annotation("u2".into()).holds(&meta));
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
