//! Grants, the families of tokens: what is kept about one. The rules for what hangs on it are in
//! [`code`](super::code) and [`refresh`](super::refresh).
//!
//! A revoked grant is deleted, and the database deletes its codes and tokens with it: no query can forget to
//! check a flag.

use std::fmt;
use std::time::Duration;

use mcpauth_service::clock::UnixTime;
use mcpauth_wire::Scopes;
use serde::{Deserialize, Serialize};

/// A grant's identifier: 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GrantId([u8; 16]);

impl GrantId {
    /// From 16 fresh random bytes, or from the stored form.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The stored form.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Marks a login. A user's logins end when it changes: with a new password, say. `Debug` does not show it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LoginMark(String);

impl LoginMark {
    /// From its text.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// Its text, for the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LoginMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LoginMark(…)")
    }
}

/// Who may do what where: the part of a grant that never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGrant {
    /// Its identifier.
    pub id: GrantId,
    /// The user; none for client credentials.
    pub subject: Option<String>,
    /// The mark of the login in which the user consented; none for client credentials.
    pub login: Option<LoginMark>,
    /// When the user logged in (`auth_time`); none for client credentials.
    pub authenticated_at: Option<UnixTime>,
    /// The client.
    pub client_id: String,
    /// The resource's URI: the audience of the tokens.
    pub resource: String,
    /// The scopes; no token of the family ever has others.
    pub scopes: Scopes,
}

/// A stored grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its identifier.
    pub id: GrantId,
    /// The user; none for client credentials.
    pub subject: Option<String>,
    /// The mark of the login in which the user consented; none for client credentials, and for a grant of a version
    /// that did not store it.
    pub login: Option<LoginMark>,
    /// When the user logged in; none for client credentials, and for a grant of a version that did not store it.
    pub authenticated_at: Option<UnixTime>,
    /// The client.
    pub client_id: String,
    /// The resource's URI.
    pub resource: String,
    /// The scopes.
    pub scopes: Scopes,
    /// When it last changed: with its beginning, the redemption of its code, a refresh.
    pub changed_at: UnixTime,
    /// The absolute end of the family. Until its code is redeemed that is the code's.
    pub expires_at: UnixTime,
}

impl Grant {
    /// A grant as it begins.
    pub fn new(grant: NewGrant, now: UnixTime, expires_at: UnixTime) -> Self {
        let NewGrant {
            id,
            subject,
            login,
            authenticated_at,
            client_id,
            resource,
            scopes,
        } = grant;
        Self {
            id,
            subject,
            login,
            authenticated_at,
            client_id,
            resource,
            scopes,
            changed_at: now,
            expires_at,
        }
    }

    /// The time of a change of the family that this clock dates to `now`. It is later than that of every change
    /// before, whichever replica made it: the clocks of replicas differ.
    pub fn time(&self, now: UnixTime) -> UnixTime {
        now.max(self.changed_at.plus(Duration::from_millis(1)))
    }
}

/// Why a code or a refresh token is not honoured. The client is told `invalid_grant`, but for
/// [`Refusal::Resource`] (`invalid_target`) and [`Refusal::Scope`] (`invalid_scope`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Never issued, expired long ago, or of a revoked family.
    #[error("the code or refresh token is unknown, expired or revoked; authorize again")]
    Unknown,
    /// Issued to another client.
    #[error("the code or refresh token was issued to another client")]
    AnotherClient,
    /// It has expired, or its family has.
    #[error("the code or refresh token has expired; authorize again")]
    Expired,
    /// Presented again after it was used: the family is revoked now.
    #[error(
        "the code or refresh token was used before; all tokens of this authorization are now revoked; authorize again"
    )]
    Reused,
    /// Too many wrong verifiers.
    #[error("too many attempts with a wrong code_verifier; authorize again")]
    TooManyAttempts,
    /// Not the authorization request's `redirect_uri`.
    #[error("redirect_uri does not match the one in the authorization request")]
    RedirectUri,
    /// The verifier does not belong to the challenge.
    #[error("code_verifier does not match the code_challenge")]
    CodeVerifier,
    /// Not the resource that was granted.
    #[error("resource does not match the grant; authorize again for another resource")]
    Resource,
    /// More than was granted.
    #[error("scope exceeds the granted scopes; authorize again to get more")]
    Scope,
}
