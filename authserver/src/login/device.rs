//! A browser in which a user has signed in before: a signed cookie. Its attempts are counted on their own, so that
//! nobody who guesses the user's password elsewhere can lock the user out here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcpauth_service::clock::UnixTime;
use serde::{Deserialize, Serialize};

use crate::keys::pepper::Pepper;
use crate::keys::signed;
use crate::random::{self, RandomError};

/// How long a browser is known after a login, in seconds: 180 days.
pub const LIFETIME_SECONDS: u32 = 180 * 86_400;
const PURPOSE: &str = "device";

/// A browser that a user has signed in with.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Random, and kept over later logins of the same user.
    pub id: String,
    /// The user.
    subject: String,
    /// In seconds since the epoch.
    expires_at: i64,
}

impl Device {
    /// The browser after a login of this user; `before` is what it was known as.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn after_login(
        before: Option<Self>,
        subject: &str,
        now: UnixTime,
    ) -> Result<Self, RandomError> {
        let id = match before {
            Some(before) => before.id,
            None => URL_SAFE_NO_PAD.encode(random::bytes::<16>()?),
        };
        Ok(Self {
            id,
            subject: subject.to_owned(),
            expires_at: now.as_seconds() + i64::from(LIFETIME_SECONDS),
        })
    }

    /// The cookie's value.
    pub fn to_cookie(&self, pepper: &Pepper) -> String {
        signed::sign(pepper, PURPOSE, self)
    }

    /// The browser of a cookie that we signed, if this user has signed in with it.
    pub fn open(pepper: &Pepper, cookie: &str, subject: &str, now: UnixTime) -> Option<Self> {
        let device: Self = signed::open(pepper, PURPOSE, cookie)?;
        let valid = device.subject == subject && now.as_seconds() < device.expires_at;
        valid.then_some(device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_known_for_its_user_alone_and_not_for_ever() {
        let pepper = Pepper::parse("1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=").unwrap();
        let now = UnixTime::from_seconds(1_000);
        let device = Device::after_login(None, "alice", now).unwrap();
        let cookie = device.to_cookie(&pepper);
        let open = |subject, now| Device::open(&pepper, &cookie, subject, now);
        assert_eq!(open("alice", now).as_ref(), Some(&device));
        assert_eq!(open("bob", now), None);
        let late = UnixTime::from_seconds(1_000 + i64::from(LIFETIME_SECONDS));
        assert_eq!(open("alice", late), None);
        let again = Device::after_login(open("alice", now), "alice", now).unwrap();
        assert_eq!(again.id, device.id);
    }
}
