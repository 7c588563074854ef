//! Grants, the families of tokens: what is kept about one, and the rule for refreshing it (OAuth 2.1,
//! section 4.3; RFC 9700, section 4.14).
//!
//! A grant has a generation. Rotation raises it by one, and a refresh token belongs to the generation in
//! which it was issued. The current generation's token rotates. Within the grace period after a rotation
//! the generation just before gets siblings of the current one, because a client with parallel requests
//! or a lost response is not an attack. Everything else is reuse, and ends the family.
//!
//! A revoked grant is deleted, and the database deletes its codes and tokens with it: no query can forget to
//! check a flag.

use std::fmt;
use std::time::Duration;

use mcpauth_wire::Scopes;

use mcpauth_service::clock::UnixTime;

/// How many refresh tokens one generation may have besides its first.
pub const MAX_SIBLINGS: i32 = 10;

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

/// Who may do what where: the part of a grant that never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGrant {
    /// Its identifier.
    pub id: GrantId,
    /// The user; none for client credentials.
    pub subject: Option<String>,
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
    /// The client.
    pub client_id: String,
    /// The resource's URI.
    pub resource: String,
    /// The scopes.
    pub scopes: Scopes,
    /// How often it has been rotated.
    pub generation: i32,
    /// When it was last rotated; the beginning for generation 0.
    pub rotated_at: UnixTime,
    /// How many siblings the current generation has been given.
    pub siblings: i32,
    /// The absolute end of the family. Until its code is redeemed that is the code's.
    pub expires_at: UnixTime,
}

impl Grant {
    /// A grant as it begins.
    pub fn new(grant: NewGrant, now: UnixTime, expires_at: UnixTime) -> Self {
        let NewGrant {
            id,
            subject,
            client_id,
            resource,
            scopes,
        } = grant;
        Self {
            id,
            subject,
            client_id,
            resource,
            scopes,
            generation: 0,
            rotated_at: now,
            siblings: 0,
            expires_at,
        }
    }

    /// Begins the next generation.
    pub fn rotate(&mut self, now: UnixTime) {
        self.generation += 1;
        self.rotated_at = now;
        self.siblings = 0;
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

/// A stored refresh token.
#[derive(Clone, Copy, Debug)]
pub struct RefreshToken {
    /// The grant's generation in which it was issued.
    pub generation: i32,
    /// The end of its idle lifetime.
    pub expires_at: UnixTime,
}

/// What an authenticated client asks for with a refresh token.
#[derive(Clone, Copy, Debug)]
pub struct RefreshAttempt<'a> {
    /// The client that presents it.
    pub client_id: &'a str,
    /// `resource` (RFC 8707): where it is sent it must be the grant's.
    pub resource: Option<&'a str>,
    /// `scope`: the new access token's, at most the grant's; absent: the grant's.
    pub scopes: Option<&'a Scopes>,
    /// How long after a rotation the generation before it gets siblings.
    pub grace: Duration,
}

/// The outcome of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum RefreshVerdict {
    /// The next generation begins.
    Rotate,
    /// One more token of the current generation.
    Sibling,
    /// Refuse; nothing changes.
    Refuse(Refusal),
    /// Reuse: refuse, and revoke the family.
    Revoke,
}

impl RefreshToken {
    /// Decides. A request from another client reveals and changes nothing.
    pub fn refresh(
        &self,
        grant: &Grant,
        attempt: &RefreshAttempt<'_>,
        now: UnixTime,
    ) -> RefreshVerdict {
        use RefreshVerdict::{Refuse, Revoke, Rotate, Sibling};
        if attempt.client_id != grant.client_id {
            return Refuse(Refusal::AnotherClient);
        }
        if now >= self.expires_at || now >= grant.expires_at {
            return Refuse(Refusal::Expired);
        }
        let current = self.generation == grant.generation;
        if !current && !self.has_grace(grant, attempt.grace, now) {
            return Revoke;
        }
        if attempt.resource.is_some_and(|uri| uri != grant.resource) {
            return Refuse(Refusal::Resource);
        }
        if attempt
            .scopes
            .is_some_and(|scopes| !scopes.is_subset(&grant.scopes))
        {
            return Refuse(Refusal::Scope);
        }
        if current { Rotate } else { Sibling }
    }

    fn has_grace(&self, grant: &Grant, grace: Duration, now: UnixTime) -> bool {
        self.generation + 1 == grant.generation
            && now < grant.rotated_at.plus(grace)
            && grant.siblings < MAX_SIBLINGS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_seconds(1_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn grant(generation: i32, siblings: i32) -> Grant {
        Grant {
            id: GrantId::from_bytes([1; 16]),
            subject: Some("alice".into()),
            client_id: "client".into(),
            resource: "https://notes.example/mcp".into(),
            scopes: Scopes::parse("read write").unwrap(),
            generation,
            rotated_at: NOW,
            siblings,
            expires_at: NOW.plus(MINUTE * 1000),
        }
    }

    fn decide(grant: &Grant, generation: i32, after: Duration) -> RefreshVerdict {
        let token = RefreshToken {
            generation,
            expires_at: NOW.plus(MINUTE * 100),
        };
        let attempt = RefreshAttempt {
            client_id: "client",
            resource: None,
            scopes: None,
            grace: MINUTE,
        };
        token.refresh(grant, &attempt, NOW.plus(after))
    }

    #[test]
    fn the_current_generation_rotates_and_older_ones_do_not() {
        let millisecond = Duration::from_millis(1);
        assert_eq!(decide(&grant(3, 0), 3, MINUTE * 50), RefreshVerdict::Rotate);
        assert_eq!(
            decide(&grant(3, 9), 2, MINUTE - millisecond),
            RefreshVerdict::Sibling
        );
        assert_eq!(decide(&grant(3, 0), 2, MINUTE), RefreshVerdict::Revoke);
        assert_eq!(
            decide(&grant(3, MAX_SIBLINGS), 2, Duration::ZERO),
            RefreshVerdict::Revoke
        );
        assert_eq!(
            decide(&grant(3, 0), 1, Duration::ZERO),
            RefreshVerdict::Revoke
        );
    }

    #[test]
    fn expired_tokens_revoke_nothing() {
        let expired = RefreshVerdict::Refuse(Refusal::Expired);
        assert_eq!(decide(&grant(3, 0), 3, MINUTE * 100), expired);
        assert_eq!(decide(&grant(3, 0), 0, MINUTE * 100), expired);
        let mut over = grant(3, 0);
        over.expires_at = NOW;
        assert_eq!(decide(&over, 3, Duration::ZERO), expired);
    }
}
