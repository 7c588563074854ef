//! The managed database's volume: which version of PostgreSQL it holds, its size, and that it is not forgotten.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use mcpauth_api::McpAuthServer;
use mcpauth_api::auth_server::{ManagedPostgres, PostgresStorage, Storage};
use mcpauth_api::conditions::{reasons, types};

use super::workload::pods_of;
use crate::desired::labels::Component;
use crate::desired::names;
use crate::desired::postgres::PostgresInputs;
use crate::desired::postgres::volume::{self, Volume};
use crate::framework::apply::ApplyError;
use crate::framework::error::Error;
use crate::framework::reconciler::ReconcileContext;
use crate::framework::status::{Condition, Observed, Status};
use crate::pods::Rollout;
use crate::problem::Problem;

/// What exists of the database.
#[derive(Clone, Debug, Default)]
pub struct Existing {
    set: Option<StatefulSet>,
    claim: Option<PersistentVolumeClaim>,
}

/// Reads what exists. A StatefulSet that is not ours does not count here; applying ours names the conflict.
///
/// # Errors
/// The API server rejects the request, or does not respond.
pub async fn find(context: &ReconcileContext<'_>) -> Result<Existing, Error> {
    let name = names::postgres(&context.owner.name);
    let sets = context.api::<StatefulSet>();
    let set = match context.applier.find(&sets, &context.ownership, &name).await {
        Err(ApplyError::NameConflict { .. } | ApplyError::Orphan { .. }) => None,
        set => set?,
    };
    let name = names::postgres_claim(&context.owner.name);
    let claims = context.api::<PersistentVolumeClaim>();
    let claim = claims
        .get_opt(&name)
        .await
        .map_err(|e| claim_error(&name, e))?;
    // One that is being deleted takes its data along.
    let claim = claim.filter(|claim| claim.metadata.deletion_timestamp.is_none());
    Ok(Existing { set, claim })
}

fn claim_error(name: &str, source: kube::Error) -> ApplyError {
    ApplyError::Api {
        kind: "PersistentVolumeClaim".to_owned(),
        name: name.to_owned(),
        source: Box::new(source),
    }
}

impl Existing {
    /// What the builder needs to know of it.
    pub fn inputs(&self, password_hash: String) -> PostgresInputs {
        PostgresInputs {
            running: volume::running(self.claim.as_ref(), self.set.as_ref()),
            template_size: self.set.as_ref().and_then(volume::template_size),
            password_hash,
        }
    }

    /// Whether its data stays when the McpAuthServer is deleted, although its spec does not name it any more.
    pub fn is_retained(&self) -> bool {
        let set = self.set.as_ref().and_then(|set| set.spec.as_ref());
        let policy = set.and_then(|s| s.persistent_volume_claim_retention_policy.as_ref());
        let deleted = policy.and_then(|policy| policy.when_deleted.as_deref());
        self.claim.is_some() && deleted != Some("Delete")
    }

    /// Writes to the volume's claim what ran on it, once it runs, and the size that the spec asks for.
    ///
    /// # Errors
    /// The API server does not respond. A rejected request is among the problems that are returned.
    async fn keep_volume(
        &self,
        context: &ReconcileContext<'_>,
        spec: &ManagedPostgres,
        applied: &StatefulSet,
    ) -> Result<Vec<Problem>, Error> {
        let Some(claim) = &self.claim else {
            return Ok(Vec::new());
        };
        let volume = Volume::of(claim);
        let ran = match Rollout::of_stateful_set(applied).is_complete() {
            true => ran(context, &volume, applied).await?,
            false => None,
        };
        let mut problems = Vec::new();
        if let Some(too_small) = volume.cannot_shrink(&spec.size.0) {
            problems.push(Problem::person(reasons::INVALID_SPEC, too_small));
        }
        if let Some(fields) = volume.changes(&spec.size.0, ran) {
            let api = context.api::<PersistentVolumeClaim>();
            let written = context.applier.inject(&api, &claim.metadata, &fields).await;
            match written.map_err(Error::from) {
                Err(Error::Problem(problem)) => problems.push(problem),
                other => other?,
            }
        }
        Ok(problems)
    }

    /// Adds what is to be said of the database. `set` is its StatefulSet as it was applied, if the spec has one.
    ///
    /// # Errors
    /// As [`Self::keep_volume`].
    pub async fn observe(
        &self,
        context: &ReconcileContext<'_>,
        object: &McpAuthServer,
        set: Option<&StatefulSet>,
        observed: &mut Observed,
    ) -> Result<(), Error> {
        let managed = match &object.spec.storage {
            Storage::Postgres(PostgresStorage::Managed(managed)) => Some(managed),
            Storage::Postgres(PostgresStorage::External(_)) | Storage::Memory(_) => None,
        };
        let mut running = None;
        if let (Some(spec), Some(set)) = (managed, set) {
            let problems = self.keep_volume(context, spec, set).await?;
            observed.problems.extend(problems);
            running = volume::running(self.claim.as_ref(), self.set.as_ref());
        }
        let status = running.map(|running| serde_json::json!({ "major": running.major }));
        observed.fields.insert("database".to_owned(), status.into());
        let is_used = managed.is_some();
        let left_behind = self.left_behind(context, object, is_used).await;
        observed.conditions.extend(left_behind);
        Ok(())
    }

    /// The DatabaseLeftBehind condition. Where there never was a database that the spec did not use, there is none.
    async fn left_behind(
        &self,
        context: &ReconcileContext<'_>,
        object: &McpAuthServer,
        is_used: bool,
    ) -> Option<Condition> {
        let conditions = object.status.iter().flat_map(|status| &status.conditions);
        let mut before = conditions.filter(|c| c.type_ == types::DATABASE_LEFT_BEHIND);
        let before = before.next().map(|condition| condition.status.as_str());
        if is_used || (self.set.is_none() && self.claim.is_none()) {
            let message = "no database is left that the spec does not use";
            return before.map(|_| {
                let reason = reasons::READY;
                Condition {
                    status: Status::False,
                    ..Condition::yes(types::DATABASE_LEFT_BEHIND, reason, message)
                }
            });
        }
        let message = volume::left_behind(&context.owner);
        if before != Some("True") {
            let events = &context.program.events;
            let about = &context.about;
            events.warning(about, types::DATABASE_LEFT_BEHIND, &message);
        }
        let reason = reasons::STORAGE_CHANGED;
        Some(Condition::yes(types::DATABASE_LEFT_BEHIND, reason, message))
    }
}

/// What the pod says that it runs, unless the claim says so already.
async fn ran(
    context: &ReconcileContext<'_>,
    volume: &Volume<'_>,
    applied: &StatefulSet,
) -> Result<Option<crate::desired::postgres::major::Running>, Error> {
    let image = volume::image(applied);
    if image.is_none() || volume.recorded().map(|running| running.image) == image {
        return Ok(None);
    }
    let pods = context.api::<Pod>();
    let pods = pods.list(&pods_of(context, Component::Postgres)).await?;
    Ok(pods.iter().find_map(volume::ran_in))
}
