//! The browser's cookies: a session after login, a random value that binds forms to the browser, and what tells a browser
//! in which a user has signed in before.

use aws_lc_rs::digest;
use http::{HeaderMap, HeaderValue, header};
use mcpauth_wire::Issuer;

use crate::http::visit::Place;
use crate::random::RandomError;

/// Cookie names and attributes for one issuer.
#[derive(Debug)]
pub struct Cookies {
    session: String,
    form: String,
    device: String,
    secure: bool,
    /// The issuer's path.
    path: String,
}

impl Cookies {
    /// With the `__Host-` prefix on https. On plain http, which is loopback only, there is no prefix, because
    /// not every browser accepts a `Secure` cookie there. A suffix derived from the issuer keeps servers on one host
    /// apart.
    pub fn new(issuer: &Issuer) -> Self {
        let secure = issuer.is_https();
        let prefix = if secure { "__Host-" } else { "" };
        let suffix = suffix(issuer);
        Self {
            session: format!("{prefix}mcpauth-session-{suffix}"),
            form: format!("{prefix}mcpauth-form-{suffix}"),
            device: format!("{prefix}mcpauth-device-{suffix}"),
            secure,
            path: issuer.path().to_owned(),
        }
    }

    /// The session cookie's value.
    pub fn session<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        find(headers, &self.session)
    }

    /// The form cookie's value.
    pub fn form<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        find(headers, &self.form)
    }

    /// The value of the cookie of a known browser.
    pub fn device<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        find(headers, &self.device)
    }

    /// `Set-Cookie` for a known browser.
    pub fn set_device(&self, place: &Place, value: &str, seconds: u64) -> Option<HeaderValue> {
        self.set(place, &self.device, value, &format!("; Max-Age={seconds}"))
    }

    /// `Set-Cookie` for the session.
    pub fn set_session(&self, place: &Place, value: &str, seconds: u64) -> Option<HeaderValue> {
        self.set(place, &self.session, value, &format!("; Max-Age={seconds}"))
    }

    /// `Set-Cookie` for the form cookie, which ends with the browser session.
    pub fn set_form(&self, place: &Place, value: &str) -> Option<HeaderValue> {
        self.set(place, &self.form, value, "")
    }

    /// Where the next session is. Its cookie must not be sent to other ports.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn next_place(&self) -> Result<Place, RandomError> {
        match self.secure {
            true => Ok(Place::default()),
            false => Place::secret(),
        }
    }

    /// Whether cookies at this place are sent to this server alone.
    pub fn are_private(&self, place: &Place) -> bool {
        self.secure || place.is_secret()
    }

    fn set(&self, place: &Place, name: &str, value: &str, age: &str) -> Option<HeaderValue> {
        let (secure, path) = match self.secure {
            // The prefix requires this path.
            true => ("; Secure", "/".to_owned()),
            false => ("", format!("{}{}", self.path, place.prefix())),
        };
        let cookie = format!("{name}={value}; Path={path}; HttpOnly; SameSite=Lax{secure}{age}");
        HeaderValue::from_str(&cookie).ok()
    }
}

/// Eight hex digits that tell this issuer's cookies from those of another on the same host.
fn suffix(issuer: &Issuer) -> String {
    let hash = digest::digest(&digest::SHA256, issuer.as_str().as_bytes());
    let bytes = hash.as_ref().iter().take(4);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn find<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let lines = headers.get_all(header::COOKIE).iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn https_cookies_have_the_host_prefix_and_are_secure() {
        let cookies = Cookies::new(&Issuer::parse("https://a.example/t1").unwrap());
        let set = cookies.set_form(&Place::default(), "x").unwrap();
        let set = set.to_str().unwrap();
        assert!(set.starts_with("__Host-mcpauth-form-"), "{set}");
        assert!(
            set.ends_with("=x; Path=/; HttpOnly; SameSite=Lax; Secure"),
            "{set}"
        );
        let local = Cookies::new(&Issuer::parse("http://localhost:9000").unwrap());
        let place = local.next_place().unwrap();
        let set = local.set_session(&place, "x", 60).unwrap();
        let set = set.to_str().unwrap();
        assert!(set.starts_with("mcpauth-session-"), "{set}");
        assert!(
            set.ends_with(&format!(
                "=x; Path={}; HttpOnly; SameSite=Lax; Max-Age=60",
                place.prefix()
            )),
            "{set}"
        );
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let cookies = Cookies::new(&Issuer::parse("http://localhost:9000").unwrap());
        let line = format!("a=b; {}=value.x; c=d", cookies.session);
        let headers = HeaderMap::from_iter([(header::COOKIE, line.parse().unwrap())]);
        assert_eq!(cookies.session(&headers), Some("value.x"));
        assert_eq!(cookies.form(&headers), None);
    }
}
