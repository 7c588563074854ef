//! The public keys for ID tokens (RFC 7517).

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::http::state::Shared;

pub(super) async fn jwks(State(app): State<Shared>) -> Json<Value> {
    Json(json!({ "keys": [app.signing_key.public_jwk()] }))
}
