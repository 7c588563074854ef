//! A browser's request to one of the pages, and the place under the issuer where it is answered.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;

use crate::random::{self, RandomError};

/// Under which the pages are found at secret places, too.
pub const PLACES: &str = "/browser/{place}";
const PLACES_PREFIX: &str = "/browser/";

/// Where pages are, and the path of their cookies: usually the issuer itself.
///
/// On plain http, which is loopback only, a browser sends the cookies of one port to every other, so to the callback server of
/// a client, which could then consent for the user. There the cookies of each sign-in have a path of their own that
/// nobody else knows, and the session ends with the authorization that it was begun for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place(Option<String>);

impl Place {
    /// One that nobody knows.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn secret() -> Result<Self, RandomError> {
        Ok(Self(Some(URL_SAFE_NO_PAD.encode(random::bytes::<16>()?))))
    }

    /// What stands between the issuer and the path of a page.
    pub fn prefix(&self) -> String {
        let name = self.0.as_deref();
        name.map_or_else(String::new, |name| format!("{PLACES_PREFIX}{name}"))
    }

    /// Whether nobody else knows it.
    pub fn is_secret(&self) -> bool {
        self.0.is_some()
    }

    /// From a name in a URL, which anybody can write.
    fn parse(name: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(name).ok()?;
        (bytes.len() == 16).then(|| Self(Some(name.to_owned())))
    }
}

/// A browser's request.
#[derive(Debug)]
pub struct Visit {
    /// Its headers.
    pub headers: HeaderMap,
    /// Where it is answered. The issuer itself if the URL names a place that cannot be ours: no cookies are found there.
    pub place: Place,
}

impl Visit {
    /// Whether a page of another site has sent the browser here.
    pub fn is_cross_site(&self) -> bool {
        let site = self.headers.get("sec-fetch-site");
        site.is_some_and(|site| site == "cross-site")
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Visit {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let named = params.ok().and_then(|params| {
            let mut params = params.iter();
            params
                .find(|(key, _)| *key == "place")
                .and_then(|(_, name)| Place::parse(name))
        });
        Ok(Self {
            headers: parts.headers.clone(),
            place: named.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_random_names_are_places() {
        let place = Place::secret().unwrap();
        assert_ne!(place, Place::secret().unwrap());
        let name = place.prefix().replace(PLACES_PREFIX, "");
        assert_eq!(Place::parse(&name), Some(place));
        for name in ["", "x", "a; Domain=evil.example", &"A".repeat(23)] {
            assert_eq!(Place::parse(name), None, "{name}");
        }
        assert_eq!(Place::default().prefix(), "");
    }
}
