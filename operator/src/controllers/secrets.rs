//! The Secrets that an authorization server's pods mount: those that the operator generates, and those that
//! the user keeps.

use std::marker::PhantomData;

use k8s_openapi::api::core::v1::Secret;
use kube::Resource;
use kube::core::NamespaceResourceScope;
use mcpauth_api::conditions::reasons;

use crate::framework::apply::Child;
use crate::framework::error::Error;
use crate::framework::reconciler::ReconcileContext;
use crate::problem::Problem;
use crate::random::NoRandomness;

/// A Secret with a random value: made once, before what depends on it, and never made anew under it.
pub struct Generated<D> {
    /// Its name.
    pub name: String,
    /// The key whose value is used.
    pub key: &'static str,
    /// The name of the object that depends on it, of kind `D`.
    pub dependent: String,
    /// Why it must keep its value.
    pub because: &'static str,
    /// The kind of what depends on it.
    pub dependents: PhantomData<D>,
}

impl<D: Child + Resource<Scope = NamespaceResourceScope>> Generated<D> {
    /// Its value. `make` makes the Secret where nothing depends on it yet.
    ///
    /// # Errors
    /// It is gone or damaged, and what depends on it is there; or the API server refuses.
    pub async fn value(
        &self,
        context: &ReconcileContext<'_>,
        make: impl FnOnce() -> Result<Secret, NoRandomness>,
    ) -> Result<Vec<u8>, Error> {
        let (applier, ownership) = (&context.applier, &context.ownership);
        let api = context.api::<Secret>();
        let secret = match applier.find(&api, ownership, &self.name).await? {
            Some(secret) => secret,
            None => {
                self.refuse_to_renew(context).await?;
                let new = make()
                    .map_err(|error| Problem::outage(reasons::APPLY_FAILED, error.to_string()))?;
                applier.create_once(&api, ownership, new).await?
            }
        };
        value(&secret, self.key).ok_or_else(|| {
            let (name, key) = (&self.name, self.key);
            let message =
                format!("Secret {name} has no value under the key {key}: restore it from a backup");
            Problem::person(reasons::SECRET_LOST, message).into()
        })
    }

    async fn refuse_to_renew(&self, context: &ReconcileContext<'_>) -> Result<(), Error> {
        let (applier, ownership) = (&context.applier, &context.ownership);
        let api = context.api::<D>();
        let found = applier.find(&api, ownership, &self.dependent).await?;
        if found.is_none() {
            return Ok(());
        }
        let Self {
            name,
            dependent,
            because,
            ..
        } = self;
        let kind = D::kind(&());
        let message = format!(
            "Secret {name} is gone, and {because}: restore it from a backup; or delete {kind} {dependent}, \
             and a new Secret is made, with which nothing issued before is valid"
        );
        Err(Problem::person(reasons::SECRET_LOST, message).into())
    }
}

/// The value of a Secret that the user keeps, and that `field` names.
///
/// # Errors
/// The Secret or its key is missing, or the API server does not answer.
pub async fn value_of(
    context: &ReconcileContext<'_>,
    field: &str,
    name: &str,
    key: &str,
) -> Result<Vec<u8>, Error> {
    let Some(secret) = context.api::<Secret>().get_opt(name).await? else {
        let message =
            format!("{field}: Secret {name} does not exist: create it, with the key {key}");
        return Err(Problem::outage(reasons::SECRET_NOT_FOUND, message).into());
    };
    value(&secret, key).ok_or_else(|| {
        let message = format!("{field}: Secret {name} has no value under the key {key}");
        Problem::outage(reasons::SECRET_INVALID, message).into()
    })
}

fn value(secret: &Secret, key: &str) -> Option<Vec<u8>> {
    let value = &secret.data.as_ref()?.get(key)?.0;
    (!value.is_empty()).then(|| value.clone())
}
