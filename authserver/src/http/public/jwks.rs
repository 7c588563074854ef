//! The public keys for ID tokens (RFC 7517).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::{HeaderValue, header};
use serde_json::Value;

use crate::signing::Signing;

/// How long the set may be kept, in seconds: far less than a key is published before it signs.
const MAX_AGE: &str = "public, max-age=300";

/// The public half of the signing keys.
#[derive(Debug)]
pub(super) struct KeySet(pub(super) Arc<Signing>);

pub(super) async fn jwks(
    State(keys): State<Arc<KeySet>>,
) -> ([(header::HeaderName, HeaderValue); 1], Json<Value>) {
    let cache = [(header::CACHE_CONTROL, HeaderValue::from_static(MAX_AGE))];
    (cache, Json(keys.0.ring().jwks()))
}
