//! The pages that users see, and where their forms go.

pub(super) mod consent;
mod form;
pub(super) mod login;
pub(super) mod pending;
mod templates;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::config;
use crate::http::cookies::Cookies;
use crate::http::core::Core;
use crate::http::visit::Place;
use crate::login::device::Device;
use crate::login::session::Session;
use crate::login::{Login, LoginError};
use crate::metrics::Metrics;
use crate::signing::Signing;

/// What the pages depend on.
#[derive(Debug)]
pub(super) struct Pages {
    pub(super) core: Arc<Core>,
    /// Users.
    pub(super) login: Arc<Login>,
    /// The keys of the ID tokens by which clients name a user.
    pub(super) signing: Arc<Signing>,
    /// Names and attributes of the browser's cookies.
    pub(super) cookies: Cookies,
    pub(super) limits: config::RateLimit,
    /// Private-use URI schemes that an administrator has listed.
    pub(super) redirect_schemes: Vec<String>,
    /// How long an authorization code lives.
    pub(super) code_lifetime: Duration,
    pub(super) metrics: Arc<Metrics>,
}

impl Pages {
    /// The URL of a page.
    pub(super) fn url(&self, place: &Place, path: &str) -> String {
        self.core.issuer.url(&format!("{}{path}", place.prefix()))
    }

    /// What a browser is known as to this user, if they have signed in with it.
    pub(super) fn device(&self, headers: &HeaderMap, subject: &str) -> Option<Device> {
        let cookie = self.cookies.device(headers)?;
        Device::open(&self.core.pepper, cookie, subject, self.core.clock.now())
    }

    /// The session of a request, if it has one that lives and whose login has not been ended since.
    pub(super) async fn session(&self, headers: &HeaderMap) -> Result<Option<Session>, LoginError> {
        let (pepper, now) = (&self.core.pepper, self.core.clock.now());
        let cookie = self.cookies.session(headers);
        let Some(session) = cookie.and_then(|cookie| Session::open(pepper, cookie, now)) else {
            return Ok(None);
        };
        let current = self.login.is_current(&session).await?;
        Ok(current.then_some(session))
    }
}
