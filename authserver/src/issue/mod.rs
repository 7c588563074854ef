//! Creates the tokens that the store decided to issue.

pub mod id_token;

use std::time::Duration;

use mcpauth_service::clock::UnixTime;
use mcpauth_wire::Scopes;

use crate::keys::pepper::{KeyedHash, Pepper};
use crate::oauth::grant::Grant;
use crate::oauth::token::{Token, TokenKind};
use crate::random::RandomError;

/// Where fresh random bytes come from; `random::bytes` in the program.
pub type Random = dyn Fn() -> Result<[u8; 32], RandomError> + Send + Sync;

/// Makes the tokens of a grant. The store calls it once it has decided that there are any, and stores what
/// is to be known of them in the transaction that decided.
#[derive(Clone, Copy)]
pub struct Minter<'a> {
    /// Hashes the tokens for the store.
    pub pepper: &'a Pepper,
    /// Source of their randomness.
    pub random: &'a Random,
    /// The lifetime of an access token.
    pub access: Duration,
    /// The idle lifetime of a refresh token; none for clients that may not refresh.
    pub refresh: Option<Duration>,
}

/// A token that was made, and what the store keeps of it.
#[derive(Clone, Debug)]
pub struct Minted {
    /// The token itself, for the answer alone.
    pub token: Token,
    /// Its hash under the current pepper.
    pub hash: KeyedHash,
    /// From this time on it is refused; never later than the grant's end.
    pub expires_at: UnixTime,
}

/// What was issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The family, as it is now.
    pub grant: Grant,
    /// The access token's scopes.
    pub scopes: Scopes,
    /// The access token.
    pub access: Minted,
    /// The refresh token, for clients that may have one.
    pub refresh: Option<Minted>,
    /// `nonce` of the authorization request, when a code was redeemed.
    pub nonce: Option<String>,
}

impl Minter<'_> {
    /// Makes what this grant gets now. `scopes` are the access token's, when they are fewer than the grant's.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn issue(
        &self,
        grant: &Grant,
        scopes: Option<&Scopes>,
        nonce: Option<String>,
        now: UnixTime,
    ) -> Result<Issued, RandomError> {
        let refresh = self.refresh.map(|idle| {
            let end = now.plus(idle).min(grant.expires_at);
            self.mint(TokenKind::Refresh, end)
        });
        let end = now.plus(self.access).min(grant.expires_at);
        Ok(Issued {
            access: self.mint(TokenKind::Access, end)?,
            refresh: refresh.transpose()?,
            scopes: scopes.unwrap_or(&grant.scopes).clone(),
            grant: grant.clone(),
            nonce,
        })
    }

    fn mint(&self, kind: TokenKind, expires_at: UnixTime) -> Result<Minted, RandomError> {
        let token = Token::generate(kind, (self.random)()?);
        Ok(Minted {
            hash: token.hash(self.pepper),
            token,
            expires_at,
        })
    }
}
