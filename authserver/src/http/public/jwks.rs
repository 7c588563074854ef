//! The public keys for ID tokens (RFC 7517).

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::keys::signing_key::SigningKey;

/// The public half of the signing keys.
#[derive(Debug)]
pub(super) struct KeySet(Value);

impl KeySet {
    pub(super) fn new(key: &SigningKey) -> Self {
        Self(json!({ "keys": [key.public_jwk()] }))
    }
}

pub(super) async fn jwks(State(keys): State<Arc<KeySet>>) -> Json<Value> {
    Json(keys.0.clone())
}
