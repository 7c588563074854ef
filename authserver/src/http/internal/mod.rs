//! The internal port: introspection and administration.

mod admin;
pub mod authentication;
mod introspect;
mod service_account;
pub mod token_verifier;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{delete, get, put};
use mcpauth_service::audit::Audit;
use mcpauth_wire::admin::SIGNING_KEYS_PATH;

use crate::http::core::Core;
use crate::http::error::HttpError;
use crate::http::introspection::Introspection;
use crate::http::layers::{Told, finish, method_not_allowed, not_found};
use crate::http::trace;
use crate::metrics::Metrics;
use crate::signing::Signing;
use authentication::InternalAuthentication;

/// The route of introspection.
const INTROSPECT: &str = "/introspect";
/// The largest body of the admin API.
const MAX_ADMIN_BODY: usize = 1024 * 1024;

/// The state of the port's routes. No handler takes it as a whole.
#[derive(Clone, Debug)]
pub struct InternalState(Arc<Endpoints>);

#[derive(Debug)]
struct Endpoints {
    core: Arc<Core>,
    authentication: Arc<InternalAuthentication>,
    introspect: introspect::Endpoint,
    signing: Arc<Signing>,
    told: Told,
}

impl InternalState {
    /// From these parts.
    pub fn new(
        core: Arc<Core>,
        authentication: InternalAuthentication,
        signing: Arc<Signing>,
        metrics: Arc<Metrics>,
        audit: Audit,
    ) -> Self {
        let authentication = Arc::new(authentication);
        let introspection = Introspection::new(Arc::clone(&core), &metrics);
        let told = Told {
            port: "internal",
            metrics,
            audit,
        };
        Self(Arc::new(Endpoints {
            introspect: introspect::Endpoint::new(
                Arc::clone(&authentication),
                introspection,
                told.clone(),
            ),
            authentication,
            core,
            signing,
            told,
        }))
    }
}

impl FromRef<InternalState> for Arc<Core> {
    fn from_ref(state: &InternalState) -> Self {
        Self::clone(&state.0.core)
    }
}

impl FromRef<InternalState> for Arc<InternalAuthentication> {
    fn from_ref(state: &InternalState) -> Self {
        Self::clone(&state.0.authentication)
    }
}

impl FromRef<InternalState> for Arc<Signing> {
    fn from_ref(state: &InternalState) -> Self {
        Self::clone(&state.0.signing)
    }
}

/// The internal port: introspection, and the routes of all else.
#[derive(Clone, Debug)]
pub struct InternalPort {
    state: InternalState,
    routes: Router,
}

impl InternalPort {
    /// From its state.
    pub fn new(state: InternalState) -> Self {
        Self {
            routes: router(state.clone()),
            state,
        }
    }

    /// The endpoint of introspection, if the request is for it.
    pub(super) fn introspection<B>(
        &self,
        request: &http::Request<B>,
    ) -> Option<&introspect::Endpoint> {
        (request.uri().path() == INTROSPECT).then_some(&self.state.0.introspect)
    }

    /// All other routes.
    pub(super) fn into_routes(self) -> Router {
        self.routes
    }
}

fn router(state: InternalState) -> Router {
    let resource = put(admin::put_resource)
        .get(admin::get_resource)
        .delete(admin::delete_resource);
    let client = put(admin::put_client)
        .get(admin::get_client)
        .delete(admin::delete_client);
    let only_admins = middleware::from_fn_with_state(state.clone(), admin::only_admins);
    let admin = Router::new()
        .route("/admin/v1/resources/{id}", resource)
        .route("/admin/v1/clients/{id}", client)
        .route(
            "/admin/v1/users/{subject}/grants",
            delete(admin::delete_user_grants),
        )
        .route(SIGNING_KEYS_PATH, get(admin::get_signing_keys))
        .layer(only_admins)
        .layer(middleware::from_fn(trace::request));
    let authenticate = middleware::from_fn_with_state(state.clone(), authenticate);
    let told = state.0.told.clone();
    let routes = admin
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(authenticate)
        .with_state(state);
    finish(routes, told, MAX_ADMIN_BODY)
}

/// The caller of the internal port.
#[derive(Clone)]
struct Principal(Arc<str>);

/// Rejects unauthenticated requests to the internal port, on every path.
async fn authenticate(
    State(authentication): State<Arc<InternalAuthentication>>,
    mut request: Request,
    next: Next,
) -> Result<Response, HttpError> {
    let principal = authentication.principal(request.headers()).await?;
    request.extensions_mut().insert(Principal(principal));
    Ok(next.run(request).await)
}
