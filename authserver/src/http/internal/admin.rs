//! The admin API on the internal port: resources and clients, put in place by the operator.

use axum::extract::{Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::Principal;
use crate::http::body;
use crate::http::error::HttpError;
use crate::http::state::Shared;
use crate::oauth::client::{ClientOrigin, is_client_id};
use crate::oauth::error::OAuthError;
use crate::registration::{ClientDocument, Invalid, ResourceDocument};
use crate::store::Upsert;

/// Lets only administrators through.
pub(super) async fn only_admins(
    State(app): State<Shared>,
    Extension(Principal(principal)): Extension<Principal>,
    request: Request,
    next: Next,
) -> Result<Response, HttpError> {
    if !app.callers.is_admin(&principal) {
        return Err(HttpError::NotAdmin(principal));
    }
    Ok(next.run(request).await)
}

pub(super) async fn put_resource(
    State(app): State<Shared>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, HttpError> {
    let refuse = |text: String| HttpError::InvalidResource(text);
    let document: ResourceDocument = document(request).await?.map_err(refuse)?;
    if document.id.as_ref().is_some_and(|other| *other != id) {
        return Err(refuse("id: expected none, or the one in the path".into()));
    }
    let resource = document.into_resource(id);
    let resource = resource.map_err(|invalid: Invalid| refuse(invalid.to_string()))?;
    Ok(outcome(app.store.upsert_resource(&resource).await?))
}

pub(super) async fn get_resource(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<ResourceDocument>, HttpError> {
    let resource = match is_client_id(&id) {
        true => app.store.resource(&id).await?,
        false => None,
    };
    let resource = resource.ok_or_else(|| HttpError::NotFound("there is no such resource"))?;
    Ok(Json(resource.into()))
}

pub(super) async fn delete_resource(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<StatusCode, HttpError> {
    if is_client_id(&id) {
        app.store.delete_resource(&id).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn put_client(
    State(app): State<Shared>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, HttpError> {
    let refuse = |text: String| HttpError::from(OAuthError::InvalidClientMetadata(text.into()));
    let document: ClientDocument = document(request).await?.map_err(refuse)?;
    if document
        .client_id
        .as_ref()
        .is_some_and(|other| *other != id)
    {
        return Err(refuse(
            "clientId: expected none, or the one in the path".into(),
        ));
    }
    document
        .check(&id)
        .map_err(|invalid| refuse(invalid.to_string()))?;
    let client = document.into_client(id, ClientOrigin::Declared, &app.pepper);
    let now = app.clock.now();
    Ok(outcome(app.store.upsert_client(&client, now).await?))
}

pub(super) async fn get_client(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<ClientDocument>, HttpError> {
    let client = match is_client_id(&id) {
        true => app.store.client(&id).await?,
        false => None,
    };
    let client = client.ok_or_else(|| HttpError::NotFound("there is no such client"))?;
    Ok(Json(client.into()))
}

pub(super) async fn delete_client(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<StatusCode, HttpError> {
    if is_client_id(&id) {
        app.store.delete_client(&id).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// A document, whatever the Content-Type says; the inner error names the field.
async fn document<T: DeserializeOwned>(request: Request) -> Result<Result<T, String>, HttpError> {
    let body = body::read(request, &()).await?;
    Ok(body::parse_json(&body))
}

fn outcome(outcome: Upsert) -> Response {
    (StatusCode::OK, Json(json!({ "outcome": outcome }))).into_response()
}
