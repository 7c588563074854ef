//! The signed ticket in login and consent forms: which request the user saw, in which browser.

use aws_lc_rs::{constant_time, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mcpauth_service::clock::UnixTime;
use mcpauth_wire::Scopes;
use serde::{Deserialize, Serialize};

use crate::keys::pepper::Pepper;
use crate::keys::signed;
use crate::oauth::authorization::AuthorizationRequest;

/// How long a page can stay open, in seconds.
const LIFETIME: i64 = 600;

/// Which form a ticket is for; it is not valid for the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The login form.
    Login,
    /// The consent form.
    Consent,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Login => "login ticket",
            Self::Consent => "consent ticket",
        }
    }
}

/// What a form stands for. It holds no secret.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// The authorization request's query.
    pub query: String,
    /// What the user was shown, on the consent page.
    pub shown: Option<Shown>,
    /// SHA-256 of the form cookie.
    browser: String,
    expires_at: i64,
}

/// What the consent page showed, to whom.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The resource's URI.
    pub resource: String,
    /// The scopes, with those that they imply.
    pub scopes: Scopes,
    /// The session in which it was shown.
    pub session_id: String,
}

impl Shown {
    /// Whether the request still asks for the same, in the same session.
    pub fn is(&self, request: &AuthorizationRequest, session_id: &str) -> bool {
        self.resource == request.resource.resource
            && self.scopes == request.effective_scopes()
            && self.session_id == session_id
    }
}

impl Ticket {
    /// For a form that goes to the browser with this form cookie.
    pub fn new(query: String, shown: Option<Shown>, form_cookie: &str, now: UnixTime) -> Self {
        Self {
            query,
            shown,
            browser: fingerprint(form_cookie),
            expires_at: now.as_seconds() + LIFETIME,
        }
    }

    /// The form's field.
    pub fn to_field(&self, pepper: &Pepper, purpose: Purpose) -> String {
        signed::sign(pepper, purpose.name(), self)
    }

    /// Parses the form's field and verifies its signature. Do not rely on it before
    /// [`Ticket::is_current`].
    pub fn read(pepper: &Pepper, purpose: Purpose, field: Option<&str>) -> Option<Self> {
        signed::open(pepper, purpose.name(), field?)
    }

    /// Whether it went to the browser with this form cookie, and is not too old.
    pub fn is_current(&self, form_cookie: &str, now: UnixTime) -> bool {
        let browser = fingerprint(form_cookie);
        let same =
            constant_time::verify_slices_are_equal(browser.as_bytes(), self.browser.as_bytes());
        same.is_ok() && now.as_seconds() < self.expires_at
    }
}

fn fingerprint(cookie: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, cookie.as_bytes()))
}
