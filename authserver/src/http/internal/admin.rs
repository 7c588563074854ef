//! The admin API on the internal port: the operator registers resources and clients with it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use mcpauth_wire::admin::{Outcome, PutAnswer, Resource as ResourceDocument, SigningKeyList};
use mcpauth_wire::client::{Client as ClientDocument, is_id};
use mcpauth_wire::{Invalid, read};
use serde::de::DeserializeOwned;

use super::Principal;
use super::authentication::InternalAuthentication;
use crate::audit::{Change, Event, Revoked};
use crate::documents::{self, ResourceError};
use crate::http::audit;
use crate::http::body;
use crate::http::core::Core;
use crate::http::error::HttpError;
use crate::http::segment::Segment;
use crate::http::trace;
use crate::oauth::client::ClientOrigin;
use crate::oauth::error::OAuthError;
use crate::signing::Signing;

/// Rejects callers that are not administrators.
pub(super) async fn only_admins(
    State(authentication): State<Arc<InternalAuthentication>>,
    Extension(Principal(principal)): Extension<Principal>,
    request: Request,
    next: Next,
) -> Result<Response, HttpError> {
    trace::caller(&principal);
    if !authentication.is_admin(&principal) {
        return Err(HttpError::NotAdmin(principal.as_ref().to_owned()));
    }
    Ok(next.run(request).await)
}

pub(super) async fn put_resource(
    State(core): State<Arc<Core>>,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, HttpError> {
    audit::about(|about| about.resource_id(&id));
    let refuse = |text: String| HttpError::InvalidResource(text);
    let document: ResourceDocument = document(request)
        .await?
        .map_err(|invalid| refuse(invalid.to_string()))?;
    if document.id.as_ref().is_some_and(|other| *other != id) {
        return Err(refuse(
            "id: must match the id in the path, or be omitted".into(),
        ));
    }
    let resource = documents::resource(document, id, &core.issuer);
    let resource = resource.map_err(|error| match error {
        ResourceError::Invalid(invalid) => refuse(invalid.to_string()),
        ResourceError::IsIssuer(_) => HttpError::Conflict(error.to_string()),
    })?;
    audit::about(|about| about.resource(&resource.resource));
    Ok(outcome(core.store.upsert_resource(&resource).await?))
}

pub(super) async fn get_resource(
    State(core): State<Arc<Core>>,
    Segment(id): Segment,
) -> Result<Json<ResourceDocument>, HttpError> {
    let resource = match is_id(&id) {
        true => core.store.resource(&id).await?,
        false => None,
    };
    let resource = resource.ok_or(HttpError::NotFound("there is no such resource"))?;
    Ok(Json(documents::resource_document(resource)))
}

pub(super) async fn delete_resource(
    State(core): State<Arc<Core>>,
    Segment(id): Segment,
) -> Result<StatusCode, HttpError> {
    if is_id(&id) {
        let found = core.store.resource(&id).await?;
        core.store.delete_resource(&id).await?;
        if let Some(resource) = found {
            audit::about(|about| {
                about.resource_id(&id);
                about.resource(&resource.resource);
            });
            audit::record(Event::AdminChange(Change::Deleted));
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn put_client(
    State(core): State<Arc<Core>>,
    Segment(id): Segment,
    request: Request,
) -> Result<Response, HttpError> {
    trace::client(&id);
    let refuse = |text: String| HttpError::from(OAuthError::InvalidClientMetadata(text.into()));
    let document: ClientDocument = document(request)
        .await?
        .map_err(|invalid| refuse(invalid.to_string()))?;
    if document
        .client_id
        .as_ref()
        .is_some_and(|other| *other != id)
    {
        return Err(refuse(
            "clientId: must match the id in the path, or be omitted".into(),
        ));
    }
    documents::check_client(&document, &id).map_err(|invalid| refuse(invalid.to_string()))?;
    let client = documents::client(document, id, ClientOrigin::Declared, &core.pepper);
    let now = core.clock.now();
    Ok(outcome(core.store.upsert_client(&client, now).await?))
}

pub(super) async fn get_client(
    State(core): State<Arc<Core>>,
    Segment(id): Segment,
) -> Result<Json<ClientDocument>, HttpError> {
    let client = match is_id(&id) {
        true => core.store.client(&id).await?,
        false => None,
    };
    let client = client.ok_or(HttpError::NotFound("there is no such client"))?;
    Ok(Json(documents::client_document(client)))
}

pub(super) async fn delete_client(
    State(core): State<Arc<Core>>,
    Segment(id): Segment,
) -> Result<StatusCode, HttpError> {
    if is_id(&id) {
        let found = core.store.client(&id).await?;
        core.store.delete_client(&id).await?;
        if found.is_some() {
            trace::client(&id);
            audit::record(Event::AdminChange(Change::Deleted));
        }
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Ends what a user has allowed. They may sign in and consent again.
pub(super) async fn delete_user_grants(
    State(core): State<Arc<Core>>,
    Segment(subject): Segment,
) -> Result<StatusCode, HttpError> {
    // PostgreSQL stores no NUL, so nobody has this name.
    if !subject.contains('\0') {
        trace::subject(&subject);
        core.store.revoke_user(&subject).await?;
        audit::record(Event::Revoked(Revoked::User));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// What each key for ID tokens does now.
pub(super) async fn get_signing_keys(
    State(core): State<Arc<Core>>,
    State(signing): State<Arc<Signing>>,
) -> Json<SigningKeyList> {
    let keys = signing.ring().states(core.clock.now());
    Json(SigningKeyList { keys })
}

/// A document, whatever the Content-Type says; the inner error names the field.
async fn document<T: DeserializeOwned>(request: Request) -> Result<Result<T, Invalid>, HttpError> {
    let body = body::read(request, &()).await?;
    Ok(read::json(&body))
}

fn outcome(outcome: Outcome) -> Response {
    match outcome {
        Outcome::Created => audit::record(Event::AdminChange(Change::Created)),
        Outcome::Updated => audit::record(Event::AdminChange(Change::Updated)),
        Outcome::Unchanged => {}
    }
    (StatusCode::OK, Json(PutAnswer { outcome })).into_response()
}
