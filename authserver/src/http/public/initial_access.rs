//! The initial access token, without which nobody registers a client where there is one (RFC 7591, section 3).

use std::path::PathBuf;
use std::sync::Arc;

use http::HeaderMap;
use mcpauth_wire::authserver_config::check_random_secret;

use crate::http::bearer;
use crate::http::client_auth::guesses::Guesses;
use crate::http::core::Core;
use crate::http::error::HttpError;
use crate::http::peer::Peer;
use crate::oauth::error::OAuthError;
use crate::reloaded::Reloaded;

/// What is guessed at. No client has this id.
const GUESSED: &str = "initial access token";
const NEEDED: &str = "registration requires an initial access token: get it from an administrator, and send it as Bearer";

/// Admits those who know the token.
#[derive(Debug)]
pub(super) struct InitialAccess {
    core: Arc<Core>,
    guesses: Arc<Guesses>,
    /// The signature of the token, see [`crate::keys::pepper::Pepper::sign`].
    signature: Reloaded<Vec<u8>>,
}

impl InitialAccess {
    /// The token is what this file holds.
    pub(super) fn new(core: Arc<Core>, guesses: Arc<Guesses>, file: PathBuf) -> Self {
        let signer = Arc::clone(&core);
        let parse = move |text: &str| {
            let token = text.trim();
            check_random_secret("", token).map_err(|invalid| invalid.to_string())?;
            Ok(signer.pepper.sign(GUESSED, token.as_bytes()).to_vec())
        };
        Self {
            core,
            guesses,
            signature: Reloaded::new(file, parse),
        }
    }

    /// Checks that a request carries the token.
    ///
    /// # Errors
    /// 401 when it does not, 429 after too many wrong ones from this network, 503 when the file is unreadable.
    pub(super) async fn admit(&self, headers: &HeaderMap, peer: &Peer) -> Result<(), HttpError> {
        let token = bearer::token(headers).ok_or(HttpError::TokenMissing(NEEDED))?;
        let signature = self.signature.current().await.map_err(|error| {
            tracing::error!(%error, "cannot read the initial access token");
            let text = "the authorization server cannot read the initial access token; try again";
            OAuthError::TemporarilyUnavailable(text.into())
        })?;
        let guesses = self.guesses.of(GUESSED, peer.network());
        guesses.admit().await?;
        // Compares keyed hashes, in constant time.
        let pepper = &self.core.pepper;
        if !pepper.verify(GUESSED, token.as_bytes(), &signature) {
            guesses.failed();
            return Err(HttpError::WrongToken(NEEDED));
        }
        Ok(guesses.succeeded().await?)
    }
}
