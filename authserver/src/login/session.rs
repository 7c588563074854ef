//! The session after login: a signed cookie, so that every replica knows it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use crate::http::state::App;
use crate::keys::signed;
use crate::login::users::UsersError;
use crate::random::{self, RandomError};
use mcpauth_service::clock::UnixTime;

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
    /// The mark of the password that was given.
    password_mark: String,
    /// When it ends, in seconds since the epoch.
    expires_at: i64,
}

impl Session {
    /// A new session, never one that the browser brought: nobody can plant it.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn begin(
        subject: String,
        password_mark: String,
        now: UnixTime,
    ) -> Result<Self, RandomError> {
        Ok(Self {
            id: URL_SAFE_NO_PAD.encode(random::bytes::<16>()?),
            subject,
            password_mark,
            expires_at: now.as_seconds() + i64::from(LIFETIME_SECONDS),
        })
    }

    /// The cookie's value.
    pub fn to_cookie(&self, app: &App) -> String {
        signed::sign(&app.pepper, PURPOSE, self)
    }
}

/// The session of a request, if it has one that lives and whose user still has the same password.
///
/// # Errors
/// When the users file cannot be read.
pub async fn of(app: &App, headers: &HeaderMap) -> Result<Option<Session>, UsersError> {
    let cookie = app.cookies.session(headers);
    let session: Option<Session> =
        cookie.and_then(|cookie| signed::open(&app.pepper, PURPOSE, cookie));
    let Some(session) = session.filter(|s| app.clock.now().as_seconds() < s.expires_at) else {
        return Ok(None);
    };
    let mark = app.login.password_mark(&session.subject).await?;
    Ok(mark
        .is_some_and(|mark| mark == session.password_mark)
        .then_some(session))
}
