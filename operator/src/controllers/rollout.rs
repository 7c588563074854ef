//! Applies what has pods. Where only an upgrade of the operator changes them, objects take turns.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt as _};

use super::upgrade::{self, Instead, Workload};
use crate::desired::labels::MANAGED_BY;
use crate::framework::context::Context;
use crate::framework::error::Error;
use crate::framework::reconciler::ReconcileContext;
use crate::framework::status::{Observed, Waiting};

/// What was applied.
pub struct Applied<W> {
    /// As the API server has it.
    pub live: W,
    /// Whether its upgrade waits for a turn.
    pub waits: bool,
}

/// Applies a workload. `cause` is a hash of what people change about its pods.
///
/// # Errors
/// As of [`Applier::apply`](crate::framework::apply::Applier::apply).
pub async fn apply<W>(
    context: &ReconcileContext<'_>,
    mut desired: W,
    cause: String,
) -> Result<Applied<W>, Error>
where
    W: Workload + Resource<Scope = NamespaceResourceScope>,
{
    let images = &context.program.images;
    let defaults = [&images.authserver, &images.resource_proxy, &images.postgres];
    let defaults = defaults.map(String::as_str);
    upgrade::mark(&mut desired, cause, &defaults);
    let (applier, ownership, api) = (&context.applier, &context.ownership, context.api::<W>());
    if applier.fresh {
        let live = applier.apply(&api, ownership, desired).await?;
        return Ok(Applied { live, waits: false });
    }
    let live = applier.find(&api, ownership, &desired.name_any()).await?;
    if let Some(live) = &live {
        upgrade::keep_cause(live, &mut desired);
    }
    let instead = live
        .as_ref()
        .and_then(|live| upgrade::instead(live, &desired, &defaults));
    let waits = instead.is_some() && !is_turn(context).await?;
    let desired = match instead.filter(|_| waits) {
        None => desired,
        Some(Instead::RunningImages(waiting)) => *waiting,
        Some(Instead::AsItIs(live)) => return Ok(Applied { live: *live, waits }),
    };
    let live = applier.apply_over(&api, ownership, live, desired).await?;
    Ok(Applied { live, waits })
}

async fn is_turn(context: &ReconcileContext<'_>) -> Result<bool, Error> {
    // On the heap, because it is large and hardly ever runs.
    let under_way = Box::pin(under_way(context.program));
    let pacing = &context.program.pacing;
    Ok(pacing.is_turn(&object(context), under_way).await?)
}

/// Ends the object's turn once nothing is under way, and says of one that waits that it does.
pub fn observe(
    context: &ReconcileContext<'_>,
    waits: bool,
    settled: bool,
    observed: &mut Observed,
) {
    let pacing = &context.program.pacing;
    if waits {
        let message = format!(
            "waits to be upgraded: the operator was upgraded, and replaces the pods of at most {} objects at a time \
             (workloads.maxConcurrentUpgrades in the chart's values). Until then, the pods run as before; a change of the \
             spec that concerns them is applied at once",
            pacing.most()
        );
        let again = pacing.wait();
        observed.waiting = Some(Waiting { message, again });
    } else if settled {
        pacing.end(&object(context));
    }
}

fn object(context: &ReconcileContext<'_>) -> String {
    let owner = &context.owner;
    Context::paced(&owner.reference.kind, &owner.namespace, &owner.name)
}

/// The objects whose pods are being replaced, for whatever reason.
async fn under_way(program: &Context) -> Result<Vec<String>, kube::Error> {
    let namespaces = program.config.watch_namespaces.iter();
    let mut scopes: Vec<Option<&String>> = namespaces.map(Some).collect();
    if scopes.is_empty() {
        scopes.push(None);
    }
    let mut found = Vec::new();
    for namespace in scopes {
        found.extend(of_kind::<Deployment>(program, namespace).await?);
        found.extend(of_kind::<StatefulSet>(program, namespace).await?);
    }
    Ok(found)
}

async fn of_kind<W>(
    program: &Context,
    namespace: Option<&String>,
) -> Result<Vec<String>, kube::Error>
where
    W: Workload + Resource<Scope = NamespaceResourceScope>,
{
    let client = program.client.clone();
    let api: Api<W> = match namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let ours = format!("app.kubernetes.io/managed-by={MANAGED_BY}");
    let mut found = Vec::new();
    // In pages, because there may be thousands.
    let mut params = ListParams::default().labels(&ours).limit(100);
    loop {
        let page = api.list(&params).await?;
        let unsettled = page.items.iter().filter(|workload| !workload.is_settled());
        found.extend(unsettled.filter_map(owner_of));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

fn owner_of(workload: &impl Workload) -> Option<String> {
    let mut owners = workload.owner_references().iter();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    let namespace = workload.namespace()?;
    Some(Context::paced(&owner.kind, &namespace, &owner.name))
}
