//! The public port: a file for each endpoint.

mod authorize;
mod discovery;
mod jwks;
mod pages;
mod pending;
mod register;
mod revoke;
mod token;

use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use http::{Method, header};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};

use crate::http::layers::{finish, method_not_allowed, not_found};
use crate::http::state::Shared;
use pages::{consent, login};

/// The largest body. Nobody is authenticated before it is read, so that all connections together must
/// not hold more than the server has; the largest form of ours, a consent, has some 16 KiB.
const MAX_BODY: usize = 32 * 1024;

/// The public port.
pub fn router(app: Shared) -> Router {
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
    if app.registration.dynamic {
        cors = cors.route("/register", post(register::register));
    }
    let pages = Router::new()
        .route("/authorize", get(authorize::authorize))
        .route("/login", get(login::without_form).post(login::login))
        .route("/consent", get(login::without_form).post(consent::consent));
    let endpoints = with_cors(cors).merge(pages);
    let path = app.issuer.path().to_owned();
    let routes = if path.is_empty() {
        endpoints
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
        with_cors(inserted).nest(&path, endpoints)
    };
    let routes = routes
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed);
    finish(routes, app, "public", MAX_BODY)
}

/// Any origin, never with credentials: what these endpoints need, the caller has to know and to send.
fn with_cors(routes: Router<Shared>) -> Router<Shared> {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([header::WWW_AUTHENTICATE, header::RETRY_AFTER])
        .max_age(Duration::from_secs(3600));
    // The fallback goes inside: set later, it would answer the preflight.
    routes
        .method_not_allowed_fallback(method_not_allowed)
        .layer(cors)
}
