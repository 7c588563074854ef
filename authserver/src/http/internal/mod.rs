//! The internal port: introspection and administration.

mod admin;
pub mod authentication;
mod introspect;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{post, put};

use crate::http::error::HttpError;
use crate::http::layers::{finish, method_not_allowed, not_found};
use crate::http::state::Shared;

/// The largest body of the admin API.
const MAX_ADMIN_BODY: usize = 1024 * 1024;

/// The internal port.
pub fn router(app: Shared) -> Router {
    let resource = put(admin::put_resource)
        .get(admin::get_resource)
        .delete(admin::delete_resource);
    let client = put(admin::put_client)
        .get(admin::get_client)
        .delete(admin::delete_client);
    let admin = Router::new()
        .route("/admin/v1/resources/{id}", resource)
        .route("/admin/v1/clients/{id}", client)
        .layer(middleware::from_fn_with_state(
            app.clone(),
            admin::only_admins,
        ));
    let routes = Router::new()
        .route("/introspect", post(introspect::introspect))
        .merge(admin)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(app.clone(), authenticate));
    finish(routes, app, "internal", MAX_ADMIN_BODY)
}

/// Who sends a request to the internal port.
#[derive(Clone)]
struct Principal(String);

/// Lets nobody unknown to the internal port, whatever they ask for.
async fn authenticate(
    State(app): State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, HttpError> {
    let principal = app.callers.principal(request.headers()).await?;
    request.extensions_mut().insert(Principal(principal));
    Ok(next.run(request).await)
}
