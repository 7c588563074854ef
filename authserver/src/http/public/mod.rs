//! The public port: a file for each endpoint.

mod authorize;
mod discovery;
mod initial_access;
mod introspect;
mod jwks;
mod pages;
mod register;
mod revoke;
mod state;
mod token;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use http::{Method, header};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::http::layers::{Told, finish, method_not_allowed, not_found};
use crate::http::visit::PLACES;
use crate::http::{peer, trace};
use pages::{consent, login};

pub use state::{Dependencies, PublicState};

/// Maximum size of a body. It is read before the client is authenticated, so all connections together must not use
/// more memory than the server has; the largest form, the consent form, has about 16 KiB.
const MAX_BODY: usize = 32 * 1024;

/// The public port.
pub fn router(state: PublicState) -> Router {
    let endpoints = state.endpoints();
    let path = endpoints.core.issuer.path().to_owned();
    let told = Told {
        port: "public",
        metrics: Arc::clone(&endpoints.metrics),
        audit: endpoints.audit.clone(),
    };
    let trusted_proxies = endpoints.trusted_proxies.clone();
    let mut cors = Router::new()
        .route(
            "/.well-known/openid-configuration",
            get(discovery::metadata),
        )
        .route(
            "/.well-known/oauth-authorization-server",
            get(discovery::metadata),
        )
        .route("/jwks", get(jwks::jwks))
        .route("/token", post(token::token))
        .route("/revoke", post(revoke::revoke));
    if endpoints.registration_open {
        let limit = DefaultBodyLimit::max(register::MAX_BODY);
        let managed = get(register::read)
            .put(register::update)
            .delete(register::delete);
        cors = cors
            .route("/register", post(register::register).layer(limit))
            .route("/register/{client_id}", managed.layer(limit));
    }
    // Without CORS: a secret has no place in a web page.
    let pages = Router::new()
        .route(
            "/authorize",
            get(authorize::authorize).post(authorize::by_post),
        )
        .route("/login", get(login::without_form).post(login::login))
        .route("/consent", get(login::without_form).post(consent::consent));
    let mut pages = pages.clone().nest(PLACES, pages);
    if endpoints.introspection_open {
        pages = pages.route("/introspect", post(introspect::introspect));
    }
    let routes = with_cors(cors).merge(pages);
    let routes = if path.is_empty() {
        routes
    } else {
        // RFC 8414, section 3.1: the well-known part goes between host and path.
        let inserted = Router::new()
            .route(
                &format!("/.well-known/oauth-authorization-server{path}"),
                get(discovery::metadata),
            )
            .route(
                &format!("/.well-known/openid-configuration{path}"),
                get(discovery::metadata),
            );
        with_cors(inserted).nest(&path, routes)
    };
    let routes = routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn(trace::request))
        .with_state(state);
    let routes = finish(routes, told, MAX_BODY);
    // Outside of all that says where a request comes from.
    match trusted_proxies {
        Some(proxies) => routes.layer(from_fn_with_state(proxies, peer::behind_proxies)),
        None => routes,
    }
}

/// Any origin, never with credentials: these endpoints act on what a request carries, never on a cookie.
fn with_cors(routes: Router<PublicState>) -> Router<PublicState> {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::WWW_AUTHENTICATE, header::RETRY_AFTER])
        .max_age(Duration::from_secs(3600));
    // The fallback goes inside: set later, it would answer the preflight.
    routes
        .method_not_allowed_fallback(method_not_allowed)
        .layer(cors)
}
