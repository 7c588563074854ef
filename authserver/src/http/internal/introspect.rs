//! `POST /introspect` on the internal port (RFC 7662).

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::body::Incoming;
use tokio::time::timeout;
use tracing::field::Empty;

use super::INTROSPECT;
use super::authentication::InternalAuthentication;
use crate::http::body;
use crate::http::error::HttpError;
use crate::http::introspection::Introspection;
use crate::http::layers::{REQUEST_TIME, Told};
use crate::http::peer::Peer;
use crate::http::route::Route;
use crate::metrics::CountedRoute;
use crate::oauth::params::Params;

/// The largest form: a token and a hint.
const MAX_FORM: usize = 16 * 1024;

/// What the endpoint depends on.
#[derive(Debug)]
pub(in crate::http) struct Endpoint {
    authentication: Arc<InternalAuthentication>,
    introspection: Introspection,
    told: Told,
    counted: CountedRoute,
}

impl Endpoint {
    pub(super) fn new(
        authentication: Arc<InternalAuthentication>,
        introspection: Introspection,
        told: Told,
    ) -> Self {
        Self {
            counted: CountedRoute::new(Arc::clone(&told.metrics), told.port, INTROSPECT),
            authentication,
            introspection,
            told,
        }
    }

    /// By far the most frequent request: proxies send one for every token that is not in their cache. Router and layers
    /// of the other routes cost more than this answer does, so it is authenticated, limited and counted here.
    pub(in crate::http) async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response {
        let (mut head, body) = request.into_parts();
        let peer = Some(Peer(peer.ip().to_canonical()));
        let telling = self.told.begin(Route::Known(INTROSPECT), peer, &mut head);
        let answered = pin!(self.answer_in_time(&head, body));
        let (response, took) = telling.answer(answered).await;
        self.counted.request(response.status().as_u16(), took);
        response
    }

    async fn answer_in_time(&self, head: &Parts, body: Incoming) -> Response {
        let answered = pin!(self.describe(head, body));
        match timeout(REQUEST_TIME, answered).await {
            Ok(Ok(response)) => response,
            Ok(Err(HttpError::MethodNotAllowed)) => {
                let mut response = HttpError::MethodNotAllowed.into_response();
                let post = HeaderValue::from_static("POST");
                response.headers_mut().insert(header::ALLOW, post);
                response
            }
            Ok(Err(error)) => error.into_response(),
            Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
        }
    }

    async fn describe(&self, head: &Parts, body: Incoming) -> Result<Response, HttpError> {
        let caller = self.authentication.principal(&head.headers).await?;
        if head.method != Method::POST {
            return Err(HttpError::MethodNotAllowed);
        }
        body::check_form(head)?;
        let params = Params::parse(&body::collect(body, MAX_FORM).await?)?;
        self.describe_to(&caller, &params).await
    }

    #[tracing::instrument(
        name = "introspect",
        level = "debug",
        skip_all,
        fields(%caller, client = Empty, subject = Empty, resource = Empty, outcome = Empty)
    )]
    async fn describe_to(&self, caller: &str, params: &Params) -> Result<Response, HttpError> {
        self.introspection.answer(caller, params).await
    }
}
