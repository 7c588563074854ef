//! The client credentials in a request, not yet verified.

use http::{HeaderMap, header};

use crate::http::error::HttpError;
use crate::oauth::error::OAuthError;
use crate::oauth::params::{Params, form_decode};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Credentials as presented. `Debug` shows only the method.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Only an id.
    Public {
        /// The id.
        client_id: String,
    },
    /// HTTP Basic (OAuth 2.1, section 2.4.1).
    Basic {
        /// The id.
        client_id: String,
        /// The secret.
        secret: String,
    },
    /// In the form.
    Post {
        /// The id.
        client_id: String,
        /// The secret.
        secret: String,
    },
    /// A signed JWT (RFC 7523, section 2.2).
    Assertion {
        /// The id: the form's, or else what the JWT claims.
        client_id: String,
        /// The JWT.
        jwt: String,
    },
}

impl Credentials {
    /// The client that they claim to belong to.
    pub fn client_id(&self) -> &str {
        match self {
            Self::Public { client_id }
            | Self::Basic { client_id, .. }
            | Self::Post { client_id, .. }
            | Self::Assertion { client_id, .. } => client_id,
        }
    }

    /// Whether they came in the `Authorization` header.
    pub fn is_basic(&self) -> bool {
        matches!(self, Self::Basic { .. })
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Public { .. } => "Public",
            Self::Basic { .. } => "Basic(…)",
            Self::Post { .. } => "Post(…)",
            Self::Assertion { .. } => "Assertion(…)",
        })
    }
}

/// Finds the credentials of a request.
///
/// # Errors
/// `invalid_client` when there are none or they do not parse, `invalid_request` when there are two.
pub fn extract(headers: &HeaderMap, params: &Params) -> Result<Credentials, HttpError> {
    let basic = basic(headers)?;
    let secret = params.get("client_secret");
    let assertion = assertion(params)?;
    let methods = [basic.is_some(), secret.is_some(), assertion.is_some()];
    if methods.into_iter().filter(|present| *present).count() > 1 {
        return Err(HttpError::from(OAuthError::InvalidRequest(
            "the request uses more than one client authentication method; use only the registered one".into(),
        )));
    }
    let in_form = params.get("client_id").map(str::to_owned);
    if let Some((client_id, secret)) = basic {
        if in_form.is_some_and(|other| other != client_id) {
            let text = "client_id in the form does not match the Authorization header; send the same one, or omit it from the form";
            return Err(OAuthError::InvalidRequest(text.into()).into());
        }
        return Ok(Credentials::Basic { client_id, secret });
    }
    if let Some(jwt) = assertion {
        let client_id = in_form
            .or_else(|| crate::oauth::client_assertion::claimed_client(jwt))
            .ok_or_else(|| HttpError::from(OAuthError::InvalidClient))?;
        let jwt = jwt.to_owned();
        return Ok(Credentials::Assertion { client_id, jwt });
    }
    match (in_form, secret.map(str::to_owned)) {
        (Some(client_id), Some(secret)) => Ok(Credentials::Post { client_id, secret }),
        (Some(client_id), None) => Ok(Credentials::Public { client_id }),
        (None, _) => Err(HttpError::from(OAuthError::InvalidClient)),
    }
}

fn assertion(params: &Params) -> Result<Option<&str>, HttpError> {
    match (
        params.get("client_assertion_type"),
        params.get("client_assertion"),
    ) {
        (None, None) => Ok(None),
        (Some(ASSERTION_TYPE), Some(jwt)) => Ok(Some(jwt)),
        _ => Err(HttpError::from(OAuthError::InvalidRequest("client_assertion requires client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer".into()))),
    }
}

fn basic(headers: &HeaderMap) -> Result<Option<(String, String)>, HttpError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(HttpError::from(OAuthError::InvalidRequest(
            "there is more than one Authorization header; send one".into(),
        )));
    }
    let parsed = value.to_str().ok().and_then(crate::http::basic::parse);
    let sent = parsed.ok_or(HttpError::InvalidBasicCredentials)?;
    // OAuth 2.1, section 2.4.1: both are form-encoded before they are joined.
    let decoded = [sent.user(), sent.password()].map(|text| form_decode(text.as_bytes()));
    match decoded.into() {
        (Ok(id), Ok(secret)) if !id.contains('\0') && !secret.contains('\0') => {
            Ok(Some((id, secret)))
        }
        _ => Err(HttpError::InvalidBasicCredentials),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn headers(credentials: &[u8]) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(credentials));
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    fn form(text: &str) -> Params {
        Params::parse(text.as_bytes()).unwrap()
    }

    fn is_invalid_request(error: &HttpError) -> bool {
        matches!(error, HttpError::OAuth(OAuthError::InvalidRequest(_)))
    }

    #[test]
    fn basic_with_percent_encoded_colon_and_plus() {
        let found = extract(&headers(b"a%3Ab:x%2By+z%3A"), &Params::default()).unwrap();
        let expected = Credentials::Basic {
            client_id: "a:b".into(),
            secret: "x+y z:".into(),
        };
        assert!(found == expected);
    }

    #[test]
    fn basic_with_bad_base64_bad_utf8_or_nul() {
        for bad in [&b"a:\xff"[..], b"a:%ff", b"a:%00", b"a:\0", b"no colon"] {
            let error = extract(&headers(bad), &Params::default()).unwrap_err();
            assert_eq!(error, HttpError::InvalidBasicCredentials);
        }
        for bad in [
            "Basic !!!",
            "Basic",
            "Basic YTpi YTpi",
            "Bearer x",
            "bearer",
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, bad.parse().unwrap())]);
            let error = extract(&headers, &form("client_id=a")).unwrap_err();
            assert_eq!(error, HttpError::InvalidBasicCredentials, "{bad}");
        }
    }

    #[test]
    fn basic_and_post_both() {
        let basic = headers(b"a:b");
        let assertion = format!("client_assertion=x&client_assertion_type={ASSERTION_TYPE}");
        for two in ["client_id=a&client_secret=b", &assertion, "client_id=c"] {
            let error = extract(&basic, &form(two)).unwrap_err();
            assert!(is_invalid_request(&error), "{two}: {error}");
        }
        let post = form(&format!("client_id=a&client_secret=b&{assertion}"));
        let error = extract(&HeaderMap::new(), &post).unwrap_err();
        assert!(is_invalid_request(&error), "{error}");
        assert!(extract(&basic, &form("client_id=a")).unwrap().is_basic());
    }

    #[test]
    fn debug_hides_secrets() {
        let found = extract(&headers(b"a:hunter2"), &Params::default()).unwrap();
        assert_eq!(format!("{found:?}"), "Basic(…)");
    }
}
