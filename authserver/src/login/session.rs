//! The session after login: a signed cookie, so that every replica knows it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcpauth_service::clock::UnixTime;
use serde::{Deserialize, Serialize};

use super::User;
use crate::keys::pepper::Pepper;
use crate::keys::signed;
use crate::oauth::grant::LoginMark;
use crate::random::{self, RandomError};

/// How long a login lasts, in seconds.
pub const LIFETIME_SECONDS: u32 = 8 * 3600;
const PURPOSE: &str = "session";

/// A login in one browser.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Random, new with every login.
    pub id: String,
    /// The user.
    pub subject: String,
    /// The mark of the login that began it.
    pub mark: LoginMark,
    /// When it ends, in seconds since the epoch.
    expires_at: i64,
}

impl Session {
    /// A new session, never one that the browser sent, to prevent session fixation.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn begin(user: User, now: UnixTime) -> Result<Self, RandomError> {
        Ok(Self {
            id: URL_SAFE_NO_PAD.encode(random::bytes::<16>()?),
            subject: user.subject,
            mark: user.mark,
            expires_at: now.as_seconds() + i64::from(LIFETIME_SECONDS),
        })
    }

    /// The user, with the mark of this login.
    pub fn user(&self) -> User {
        User {
            subject: self.subject.clone(),
            mark: self.mark.clone(),
        }
    }

    /// When the user logged in.
    pub fn began_at(&self) -> UnixTime {
        UnixTime::from_seconds(self.expires_at - i64::from(LIFETIME_SECONDS))
    }

    /// Whether the login is at most so many seconds ago.
    pub fn is_within(&self, max_age: Option<u32>, now: UnixTime) -> bool {
        let age = now.as_seconds() - self.began_at().as_seconds();
        max_age.is_none_or(|max_age| age <= i64::from(max_age))
    }

    /// The cookie's value.
    pub fn to_cookie(&self, pepper: &Pepper) -> String {
        signed::sign(pepper, PURPOSE, self)
    }

    /// The session of a cookie that we signed, unless its time is over. Ask
    /// [`Login::is_current`](super::Login::is_current) before anything is done in its name.
    pub fn open(pepper: &Pepper, cookie: &str, now: UnixTime) -> Option<Self> {
        let session: Self = signed::open(pepper, PURPOSE, cookie)?;
        (now.as_seconds() < session.expires_at).then_some(session)
    }
}
