//! State that nearly every endpoint needs.

use std::sync::Arc;

use mcpauth_service::clock::Clock;
use mcpauth_wire::Issuer;

use crate::keys::pepper::Pepper;
use crate::store::Store;

/// The issuer, the store, the keys for hashes, and the clock. It contains no users, signing key or credentials.
#[derive(Debug)]
pub struct Core {
    /// The issuer.
    pub issuer: Issuer,
    /// Clients, resources, grants.
    pub store: Arc<dyn Store>,
    /// Keys for hashes, cookies and forms.
    pub pepper: Pepper,
    /// The time.
    pub clock: Clock,
}
