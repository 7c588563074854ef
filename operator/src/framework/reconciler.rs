//! What a controller implements for its kind, and the context of one reconcile.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{ApiResource, DynamicObject};
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::Controller;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use mcpauth_api::McpAuthServer;
use mcpauth_api::refs::AuthServerRef;
use tokio::sync::OnceCell;

use crate::desired::labels::{Component, MANAGED_BY, Owner};
use crate::framework::apply::{Applier, Object};
use crate::framework::context::{Context, Scope};
use crate::framework::error::Error;
use crate::framework::guarded::Guarded;
use crate::framework::ownership::Ownership;
use crate::framework::references::{self, Key, References, Target};
use crate::framework::status::Observed;
use crate::framework::watched::Watched;

/// One of our kinds.
pub trait Reconcile: Object + Resource<Scope = NamespaceResourceScope> {
    /// The kind's name.
    const KIND: &'static str;
    /// The field manager of its controller.
    const MANAGER: &'static str;
    /// The finalizer of its controller.
    const FINALIZER: &'static str;

    /// The references of objects of this kind.
    fn references(ctx: &Context) -> &References;

    /// The McpAuthServer that the object registers with, if it does.
    fn auth_server(&self) -> Option<&AuthServerRef> {
        None
    }

    /// Whether the object has pods that start before it is registered: among many new objects, they come first.
    fn has_pods(&self) -> bool {
        false
    }

    /// Watches the children of objects of this kind, and the objects that they reference.
    fn watch(controller: Controller<Guarded<Self>>, scope: &Scope) -> Controller<Guarded<Self>>;

    /// Applies the spec, and returns what it observed.
    fn sync(
        &self,
        context: &ReconcileContext<'_>,
    ) -> impl Future<Output = Result<Observed, Error>> + Send;

    /// Adds observations that [`Self::sync`] did not get to because of a problem.
    fn complete(
        &self,
        _: &ReconcileContext<'_>,
        _: &mut Observed,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// Ends what the object no longer has a right to, although it is not reconciled: it does not parse, or its claim says that
    /// it is another installation's. Its owner writes both, and must not keep tokens alive with them. Nothing is written to
    /// the object or its children.
    fn withdraw(
        _: &DynamicObject,
        _: &ReconcileContext<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// Cleans up what is not garbage-collected. `raw` is the stored object, which does not have to parse. A [`Problem`]
    /// keeps the finalizer.
    fn cleanup(
        raw: &DynamicObject,
        context: &ReconcileContext<'_>,
    ) -> impl Future<Output = Result<(), Error>> + Send;
}

/// The context of one reconcile.
pub struct ReconcileContext<'a> {
    /// The program's context.
    pub program: &'a Context,
    /// The object, as owner of its children.
    pub owner: Owner,
    /// Writes children.
    pub applier: Applier<'a>,
    /// How ownership is recorded on children.
    pub ownership: Ownership,
    /// The object that events are about.
    pub about: ObjectReference,
    /// Whether it gives way to other new objects, so that its pods alone are made, and the rest in its next reconcile.
    pub pods_first: bool,
    references: &'a References,
    auth_server: OnceCell<Arc<Option<Guarded<McpAuthServer>>>>,
}

impl<'a> ReconcileContext<'a> {
    /// For an object, which `is_new` if it was not reconciled before; none if it has no namespace or uid.
    pub fn new<K: Reconcile>(object: &Guarded<K>, is_new: bool, ctx: &'a Context) -> Option<Self> {
        let owner = Owner::of(object)?;
        Some(Self {
            program: ctx,
            applier: Applier {
                manager: K::MANAGER,
                written: &ctx.written,
                metrics: &ctx.metrics,
                fresh: is_new,
            },
            ownership: Ownership::Controller(owner.reference.clone()),
            owner,
            about: object.object_ref(&()),
            pods_first: false,
            references: K::references(ctx),
            auth_server: OnceCell::new(),
        })
    }

    /// How ownership is recorded on children that may outlive the object.
    pub fn kept(&self, component: Component) -> Ownership {
        Ownership::Labels {
            owner: self.owner.reference.uid.clone(),
            labels: self.owner.kept_labels(component),
        }
    }

    /// The API for children and referenced objects in the object's own namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.program.client.clone(), &self.owner.namespace)
    }

    /// The McpAuthServer that the object refers to, read once in a reconcile. For a new object it may be a moment old: its
    /// next change reconciles the object again.
    ///
    /// # Errors
    /// The API server rejects the request, or does not respond.
    pub async fn read_auth_server(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<&Guarded<McpAuthServer>>, kube::Error> {
        let read = async || {
            let api: Api<Guarded<_>> = Api::namespaced(self.program.client.clone(), namespace);
            api.get_opt(name).await
        };
        let recent = async || match self.applier.fresh {
            true => {
                let key = (namespace.to_owned(), name.to_owned());
                self.program.recent_auth_servers.get(key, read).await
            }
            false => Ok(Arc::new(read().await?)),
        };
        let found = self.auth_server.get_or_try_init(recent).await?;
        Ok(found.as_ref().as_ref())
    }

    /// Whether this is a new object among others, so that what can wait is left to its next reconcile.
    pub fn gives_way(&self) -> bool {
        self.pods_first || self.applier.fresh && self.program.newcomers.is_one_of_many()
    }

    /// Records what the object references, before that is read.
    pub fn refers_to(&self, targets: impl IntoIterator<Item = Target>) {
        let key = (self.owner.namespace.clone(), self.owner.name.clone());
        self.references.set(&key, targets.into_iter().collect());
    }

    /// Records further references of the object, before the referenced objects are read.
    pub fn refers_also_to(&self, targets: impl IntoIterator<Item = Target>) {
        let key = (self.owner.namespace.clone(), self.owner.name.clone());
        self.references.add(&key, targets);
    }
}

/// The selector with which children of one component are watched: each controller is sent its own alone.
pub fn children(component: Component) -> watcher::Config {
    let owner = component.owner_label();
    watcher::Config::default().labels(&format!(
        "app.kubernetes.io/managed-by={MANAGED_BY},{owner}"
    ))
}

/// Watches children that may outlive objects of kind `K`; the label of `component` names their owner.
pub fn watch_kept<K, R>(
    controller: Controller<Guarded<K>>,
    api: Api<Watched<R>>,
    component: Component,
) -> Controller<Guarded<K>>
where
    K: Reconcile,
    R: Resource<DynamicType = ()> + Clone + Debug + Send + 'static,
{
    controller.watches(api, children(component), move |kept| {
        let name = kept.labels().get(component.owner_label())?.clone();
        Some(ObjectRef::new(&name).within(&kept.namespace()?))
    })
}

/// Watches what objects of kind `K` refer to.
pub fn watch_references<K, R>(
    controller: Controller<Guarded<K>>,
    api: Api<Watched<R>>,
    kind: references::Kind,
    scope: &Scope,
) -> Controller<Guarded<K>>
where
    K: Reconcile,
    R: Resource<DynamicType = ()> + Clone + Debug + Send + 'static,
{
    let scope = scope.clone();
    controller.watches(api, watcher::Config::default(), move |target| {
        referrers::<K>(&scope, kind, key_of(&target))
    })
}

/// The objects of kind `K` in `scope` that refer to something.
pub fn referrers<K: Reconcile>(
    scope: &Scope,
    kind: references::Kind,
    key: Key,
) -> Vec<ObjectRef<Guarded<K>>> {
    let observed = K::references(&scope.program).referrers(&(kind, key));
    let refer = |(namespace, name): Key| ObjectRef::new(&name).within(&namespace);
    let here = observed.into_iter().filter(|key| scope.covers(&key.0));
    here.map(refer).collect()
}

/// The namespace and name of an object.
pub fn key_of(object: &impl Resource) -> Key {
    let meta = object.meta();
    (
        meta.namespace.clone().unwrap_or_default(),
        meta.name.clone().unwrap_or_default(),
    )
}

/// The stored objects of kind `K`, including those that do not parse.
pub fn stored<K: Reconcile>(ctx: &Context, namespace: &str) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<K>(&());
    Api::namespaced_with(ctx.client.clone(), namespace, &kind)
}

/// Since when an object is being deleted.
pub fn deleted_at(object: &impl ResourceExt) -> Option<Timestamp> {
    object.meta().deletion_timestamp.as_ref().map(|time| time.0)
}
