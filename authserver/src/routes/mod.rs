//! The three ports' routes, a file for each endpoint.

mod admin;
mod authorize;
mod consent;
mod discovery;
mod health;
mod introspect;
mod jwks;
mod login;
mod register;
mod revoke;
mod token;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use tower_http::cors::{AllowHeaders, Any, CorsLayer};
use tower_http::timeout::TimeoutLayer;

use crate::app::App;
use crate::error::OAuthError;

pub use health::{Health, health};

/// What handlers take as their state.
type Shared = Arc<App>;
/// A request that is not there completely after this time is refused: slow clients hold no place.
const REQUEST_TIME: Duration = Duration::from_secs(30);
/// The largest body. Nobody is authenticated before it is read, so that all connections together must
/// not hold more than the server has; the largest form of ours, a consent, has some 16 KiB.
const MAX_BODY: usize = 32 * 1024;
/// The largest body of the admin API.
const MAX_ADMIN_BODY: usize = 1024 * 1024;

/// The public port.
pub fn public(app: Shared) -> Router {
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

/// The internal port.
pub fn internal(app: Shared) -> Router {
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

fn finish(routes: Router<Shared>, app: Shared, port: &'static str, body: usize) -> Router {
    let counted = (app.clone(), port);
    routes
        .layer(DefaultBodyLimit::max(body))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::REQUEST_TIMEOUT,
            REQUEST_TIME,
        ))
        .layer(middleware::from_fn_with_state(counted, count))
        .with_state(app)
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

/// Who sends a request to the internal port.
#[derive(Clone)]
struct Principal(String);

/// Lets nobody unknown to the internal port, whatever they ask for.
async fn authenticate(
    State(app): State<Shared>,
    mut request: Request,
    next: Next,
) -> Result<Response, OAuthError> {
    let principal = app.callers.principal(request.headers()).await?;
    request.extensions_mut().insert(Principal(principal));
    Ok(next.run(request).await)
}

async fn not_found() -> OAuthError {
    OAuthError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        "there is no such endpoint",
    )
}

async fn method_not_allowed() -> OAuthError {
    OAuthError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "invalid_request",
        "the endpoint does not know this method; Allow names those that it knows",
    )
}

async fn count(
    State((app, port)): State<(Shared, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let start = tokio::time::Instant::now();
    let response = next.run(request).await;
    let route = matched.as_ref().map_or("other", |path| path.as_str());
    let status = response.status().as_u16();
    app.metrics.request(port, route, status, start.elapsed());
    response
}

/// The address that the connection comes from. Forwarded headers are not believed.
struct Peer(IpAddr);

impl Peer {
    /// What its requests are counted on: the address, or of IPv6 the network of 64 bits, because who has
    /// one address of it has all.
    fn network(&self) -> IpAddr {
        match self.0 {
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
            }
            address @ IpAddr::V4(_) => address,
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = OAuthError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, OAuthError> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        peer.map(|peer| Self(peer.0.ip().to_canonical()))
            .ok_or_else(OAuthError::server_error)
    }
}

/// A 303 to this URL: the browser follows with GET and never sends a form on.
fn see_other(url: &str) -> Response {
    match HeaderValue::from_str(url) {
        Ok(location) => {
            let headers = [
                (header::LOCATION, location),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
                (
                    header::REFERRER_POLICY,
                    HeaderValue::from_static("no-referrer"),
                ),
            ];
            (StatusCode::SEE_OTHER, headers).into_response()
        }
        Err(_) => OAuthError::server_error().into_response(),
    }
}
