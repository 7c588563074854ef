//! Writes children: never over objects that are not ours, and only when needed.
//!
//! The first write of a child is a `create`, which fails if an object of that name exists. Later writes are server-side
//! applies with the UID. A child is not written at all if its desired state is the one applied last and nobody has
//! changed it since; status updates by its own controller do not count as changes.
//!
//! Fields of objects that we do not own are injected: [`Applier::inject`].

use std::fmt::Debug;

use kube::api::{ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::framework::ownership::{Ownership, Whose};
use crate::framework::written::{Written, contains, fingerprint, sha256};
use crate::metrics::Metrics;
use crate::text::explain;

/// The annotation with the hash of what was applied.
pub const HASH: &str = "mcpauth.io/desired-hash";

/// A kind that the operator reads and writes.
pub trait Object:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize + Send + Sync + 'static
{
}
impl<T> Object for T where
    T: Resource<DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize
        + Send
        + Sync
        + 'static
{
}

/// Why a child was not written.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An object of that name exists, and we do not own it.
    #[error(
        "{kind} {name} already exists and is not managed by this object, so it was left unchanged: \
         delete it, or give this object another name"
    )]
    NameConflict {
        /// The child's kind.
        kind: String,
        /// The child's name.
        name: String,
    },
    /// An object of that name belonged to a deleted owner of the same name, and will be garbage-collected.
    #[error(
        "{kind} {name} still belongs to a deleted object of the same name: waiting until it is garbage-collected"
    )]
    Orphan {
        /// The child's kind.
        kind: String,
        /// The child's name.
        name: String,
    },
    /// The API server rejected the request, or did not respond.
    #[error("{kind} {name}: {}", explain(source))]
    Api {
        /// The child's kind.
        kind: String,
        /// The child's name.
        name: String,
        /// Its error.
        source: Box<kube::Error>,
    },
    /// The child cannot be serialized as JSON.
    #[error("cannot serialize the object as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Writes the children of one controller.
pub struct Applier<'a> {
    /// The field manager, one per controller.
    pub manager: &'static str,
    /// What was written before.
    pub written: &'a Written,
    /// Where writes are counted.
    pub metrics: &'a Metrics,
    /// Whether nothing was applied for the owner yet: its children are then created without being read before.
    pub fresh: bool,
}

impl Applier<'_> {
    /// Writes the child if needed, and returns it as the API server has it, status included.
    ///
    /// # Errors
    /// [`ApplyError::NameConflict`] or [`ApplyError::Orphan`] when an object of that name is not owned by `ownership`;
    /// nothing is written then.
    pub async fn apply<K: Object>(
        &self,
        api: &Api<K>,
        ownership: &Ownership,
        desired: K,
    ) -> Result<K, ApplyError> {
        let (live, _) = self.apply_telling(api, ownership, desired).await?;
        Ok(live)
    }

    /// Like [`Self::apply`]; also returns whether the child existed and was changed.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub async fn apply_telling<K: Object>(
        &self,
        api: &Api<K>,
        ownership: &Ownership,
        desired: K,
    ) -> Result<(K, bool), ApplyError> {
        let desired = prepare(ownership, desired)?;
        let name = desired.name_any();
        let at = |source| api_error::<K>(&name, source);
        if self.fresh {
            match self.create(api, ownership, &desired).await {
                // Somebody else's, or left by a process that ended before it wrote the finalizer.
                Err(ApplyError::Api { source, .. }) if is_code(&source, 409) => {}
                made => return Ok((made?, false)),
            }
        }
        let live = api.get_opt(&name).await.map_err(at)?;
        self.write(api, ownership, live, desired).await
    }

    /// As [`Self::apply`], over what [`Self::find`] found.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub async fn apply_over<K: Object>(
        &self,
        api: &Api<K>,
        ownership: &Ownership,
        live: Option<K>,
        desired: K,
    ) -> Result<K, ApplyError> {
        let desired = prepare(ownership, desired)?;
        let (live, _) = self.write(api, ownership, live, desired).await?;
        Ok(live)
    }

    async fn write<K: Object>(
        &self,
        api: &Api<K>,
        ownership: &Ownership,
        live: Option<K>,
        desired: K,
    ) -> Result<(K, bool), ApplyError> {
        let name = desired.name_any();
        let at = |source| api_error::<K>(&name, source);
        let Some(live) = live else {
            let made = self.create(api, ownership, &desired).await?;
            return Ok((made, false));
        };
        refuse_foreign(ownership, &live)?;
        let uid = live.uid().unwrap_or_default();
        let before = fingerprint(&live)?;
        let same_hash = live.annotations().get(HASH) == desired.annotations().get(HASH);
        if same_hash && self.written.is(ownership.owner(), &uid, &before) {
            return Ok((live, false));
        }
        // After a restart of this operator: what was applied before, if nobody has changed it.
        let known = self.written.knows(ownership.owner(), &uid);
        if same_hash
            && !known
            && contains(
                &serde_json::to_value(&live)?,
                &serde_json::to_value(&desired)?,
            )
        {
            self.written.set(ownership.owner(), &uid, before);
            return Ok((live, false));
        }
        if live.meta().deletion_timestamp.is_some() {
            // It is recreated once it is deleted; the deletion event triggers that.
            return Ok((live, false));
        }
        self.own_by_apply(api, &live).await.map_err(at)?;

        let mut body = desired;
        body.meta_mut().uid = Some(uid.clone());
        let params = PatchParams::apply(self.manager).force();
        self.metrics.write(self.manager, "apply");
        let live = api
            .patch(&name, &params, &Patch::Apply(&body))
            .await
            .map_err(at)?;
        let after = fingerprint(&live)?;
        let changed = after != before;
        self.written.set(ownership.owner(), &uid, after);
        Ok((live, changed))
    }

    /// Writes `fields` into an object that we do not own. The object is not created, claimed or deleted: if it no
    /// longer exists, or was replaced by another one of that name, nothing is written.
    ///
    /// # Errors
    /// [`ApplyError::Api`] when the API server rejects the request or does not respond.
    pub async fn inject<K: Object>(
        &self,
        api: &Api<K>,
        target: &ObjectMeta,
        fields: &serde_json::Value,
    ) -> Result<(), ApplyError> {
        let name = target.name.clone().unwrap_or_default();
        let mut body = fields.clone();
        body["apiVersion"] = K::api_version(&()).into();
        body["kind"] = K::kind(&()).into();
        body["metadata"]["name"] = name.as_str().into();
        // With a UID, the API server neither creates a missing object nor changes another one of that name.
        body["metadata"]["uid"] = target.uid.clone().into();
        let params = PatchParams::apply(self.manager).force();
        self.metrics.write(self.manager, "inject");
        match api
            .patch_metadata(&name, &params, &Patch::Apply(&body))
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if is_gone_or_replaced(&error) => Ok(()),
            Err(error) => Err(api_error::<K>(&name, error)),
        }
    }

    /// The existing child, if there is one.
    ///
    /// # Errors
    /// Like [`Self::apply`]. Failing to read a child is an error; the child is not taken as missing.
    pub async fn find<K: Object>(
        &self,
        api: &Api<K>,
        ownership: &Ownership,
        name: &str,
    ) -> Result<Option<K>, ApplyError> {
        let live = api
            .get_opt(name)
            .await
            .map_err(|e| api_error::<K>(name, e))?;
        if let Some(live) = &live {
            refuse_foreign(ownership, live)?;
        }
        Ok(live)
    }

    /// Creates a child that [`Self::find`] did not find and that is never written again: a Secret with random values.
    ///
    /// # Errors
    /// Like [`Self::apply`]; also when an object of that name exists.
    pub async fn create_once<K: Object>(
        &self,
        api: &Api<K>,
        ownership: &Ownership,
        desired: K,
    ) -> Result<K, ApplyError> {
        self.create(api, ownership, &prepare(ownership, desired)?)
            .await
    }

    async fn create<K: Object>(
        &self,
        api: &Api<K>,
        ownership: &Ownership,
        desired: &K,
    ) -> Result<K, ApplyError> {
        let params = PostParams {
            field_manager: Some(self.manager.to_owned()),
            ..PostParams::default()
        };
        self.metrics.write(self.manager, "create");
        let live = api
            .create(&params, desired)
            .await
            .map_err(|e| api_error::<K>(&desired.name_any(), e))?;
        self.written.set(
            ownership.owner(),
            &live.uid().unwrap_or_default(),
            fingerprint(&live)?,
        );
        Ok(live)
    }

    /// Deletes the child if it exists and is owned by `ownership`.
    ///
    /// # Errors
    /// [`ApplyError::Api`] when the API server rejects the request or does not respond.
    pub async fn delete<K: Object>(
        &self,
        api: &Api<K>,
        ownership: &Ownership,
        name: &str,
    ) -> Result<(), ApplyError> {
        if self.fresh && matches!(ownership, Ownership::Controller(_)) {
            return Ok(());
        }
        let at = |source| api_error::<K>(name, source);
        let Some(live) = api.get_opt(name).await.map_err(at)? else {
            return Ok(());
        };
        if ownership.of(live.meta()) != Whose::Ours || live.meta().deletion_timestamp.is_some() {
            return Ok(());
        }
        let uid = live.uid();
        let params = kube::api::DeleteParams {
            preconditions: Some(Preconditions {
                uid,
                resource_version: None,
            }),
            ..kube::api::DeleteParams::background()
        };
        self.metrics.write(self.manager, "delete");
        match api.delete(name, &params).await {
            Ok(_) => Ok(()),
            Err(error) if is_code(&error, 404) => Ok(()),
            Err(error) => Err(at(error)),
        }
    }

    /// After a `create`, our manager owns the fields by "Update". Applying would not change that, and a field that we no
    /// longer want would stay; so this first moves the ownership to "Apply".
    async fn own_by_apply<K: Object>(&self, api: &Api<K>, live: &K) -> Result<(), kube::Error> {
        let mut entries = live.managed_fields().to_vec();
        let mut changed = false;
        for entry in &mut entries {
            let ours =
                entry.manager.as_deref() == Some(self.manager) && entry.subresource.is_none();
            if ours && entry.operation.as_deref() == Some("Update") {
                entry.operation = Some("Apply".to_owned());
                changed = true;
            }
        }
        if !changed {
            return Ok(());
        }
        let patch = json!({ "metadata": {
            "managedFields": entries,
            "resourceVersion": live.resource_version(),
        }});
        self.metrics.write(self.manager, "patch");
        api.patch_metadata(
            &live.name_any(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await?;
        Ok(())
    }
}

/// `desired` with its owner and its hash.
fn prepare<K: Object>(ownership: &Ownership, mut desired: K) -> Result<K, ApplyError> {
    ownership.put_on(desired.meta_mut());
    let hash = sha256(&serde_json::to_vec(&desired)?);
    desired.annotations_mut().insert(HASH.to_owned(), hash);
    Ok(desired)
}

fn refuse_foreign<K: Object>(ownership: &Ownership, live: &K) -> Result<(), ApplyError> {
    let (kind, name) = (K::kind(&()).into_owned(), live.name_any());
    match ownership.of(live.meta()) {
        Whose::Ours => Ok(()),
        Whose::Orphan => Err(ApplyError::Orphan { kind, name }),
        Whose::Foreign => Err(ApplyError::NameConflict { kind, name }),
    }
}

fn api_error<K: Object>(name: &str, source: kube::Error) -> ApplyError {
    ApplyError::Api {
        kind: K::kind(&()).into_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    }
}

/// Whether the API server rejected a write because its UID belongs to an object that was deleted or replaced.
pub fn is_gone_or_replaced(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else {
        return false;
    };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    matches!(status.code, 404 | 409)
        || status.code == 422 && causes.into_iter().any(|c| c.field == "metadata.uid")
}

/// Whether the API server answered with this HTTP status.
pub fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::framework::written::tests::config_map;

    #[test]
    fn the_hash_follows_the_desired_state() {
        let ownership = Ownership::Labels {
            owner: "u1".into(),
            labels: BTreeMap::new(),
        };
        let hash = |c: ConfigMap| prepare(&ownership, c).unwrap().annotations()[HASH].clone();
        let mut other = config_map();
        other
            .data
            .get_or_insert_default()
            .insert("b".into(), "2".into());
        assert_eq!(hash(config_map()), hash(config_map()));
        assert_ne!(hash(config_map()), hash(other));
    }
}
