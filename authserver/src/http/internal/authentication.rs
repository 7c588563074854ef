//! Internal authentication: who sends a request to the internal port, and who may administer.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use aws_lc_rs::{constant_time, digest};
use http::{HeaderMap, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::Api;
use kube::api::PostParams;
use mcpauth_service::admission::{Admission, Bounds, Caller};
use mcpauth_service::listener::Limits;
use moka::sync::Cache;

use crate::config::Internal;
use crate::http::basic;
use crate::http::error::HttpError;
use crate::oauth::error::OAuthError;
use crate::oauth::params::form_decode;

/// How long an answer of the Kubernetes API is believed.
const REVIEW_LIFETIME: Duration = Duration::from_secs(60);
/// How long the Kubernetes API may take for one.
const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);
/// How many answers are kept.
const REVIEWS: u64 = 10_000;
/// For how long a token that was good counts as known: as long as kubelet lets one live.
const KNOWN: Duration = Duration::from_secs(3600);
/// Known tokens wait for as long as it takes: the port has no more connections than this.
const KNOWN_BOUNDS: Bounds = Bounds {
    waiting: Limits::INTERNAL.connections,
    concurrent: 8,
};
/// Unknown ones must not flood the API server through us.
const UNKNOWN_BOUNDS: Bounds = Bounds {
    waiting: 256,
    concurrent: 8,
};

/// Authenticates the requests of the internal port, as configured. `Debug` shows no credential.
pub struct InternalAuthentication {
    credentials: HashMap<String, Digest>,
    admins: Vec<String>,
    reviews: Option<TokenReviews>,
}

type Digest = [u8; 32];

impl fmt::Debug for InternalAuthentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InternalAuthentication")
            .field("admins", &self.admins)
            .field("reviews", &self.reviews)
            .finish_non_exhaustive()
    }
}

impl InternalAuthentication {
    /// From the configuration; finds the Kubernetes API when ServiceAccount tokens are accepted.
    ///
    /// # Errors
    /// When there is no configuration for a Kubernetes client.
    pub async fn new(internal: Internal) -> Result<Self, kube::Error> {
        let reviews = match internal.token_review_audience {
            Some(audience) => {
                let api = Api::all(kube::Client::try_default().await?);
                Some(TokenReviews::new(audience, api))
            }
            None => None,
        };
        let credentials = internal.credentials.into_iter();
        Ok(Self {
            credentials: credentials
                .map(|(id, secret)| (id, sha256(secret.reveal())))
                .collect(),
            admins: internal.admins,
            reviews,
        })
    }

    /// The principal that sends a request: `credential:ID`, or a ServiceAccount's user name.
    ///
    /// # Errors
    /// 401 for anything else, 503 when the Kubernetes API does not answer.
    pub async fn principal(&self, headers: &HeaderMap) -> Result<String, HttpError> {
        let refused = HttpError::Unauthenticated;
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Err(refused("the Authorization header is missing")),
            (Some(value), None) => value.to_str().unwrap_or_default(),
            (Some(_), Some(_)) => {
                return Err(refused("there is more than one Authorization header"));
            }
        };
        if let Some((id, secret)) = basic::parse(value) {
            let principal = self.basic(&id, &secret);
            return principal.ok_or(refused("the credential is unknown or its secret is wrong"));
        }
        match (value.split_once(' '), &self.reviews) {
            (Some((scheme, token)), Some(reviews)) if scheme.eq_ignore_ascii_case("bearer") => {
                let principal = reviews.principal(token.trim()).await?;
                principal.ok_or(refused(
                    "the ServiceAccount token is expired, of a deleted pod, or for another audience",
                ))
            }
            (_, Some(_)) => Err(refused(
                "send a ServiceAccount token as Bearer, or a credential as Basic",
            )),
            (_, None) => Err(refused(
                "send a credential of internal.credentials as Basic; ServiceAccount tokens are \
                 accepted only with internal.tokenReview",
            )),
        }
    }

    /// Whether a principal may administer.
    pub fn is_admin(&self, principal: &str) -> bool {
        self.admins.iter().any(|admin| admin == principal)
    }

    /// The two as they are (RFC 7617), or form-encoded as OAuth clients send them (OAuth 2.1, section
    /// 2.4.1).
    fn basic(&self, id: &str, secret: &str) -> Option<String> {
        let decoded = || {
            let id = form_decode(id.as_bytes()).ok()?;
            let secret = form_decode(secret.as_bytes()).ok()?;
            self.credential(&id, &secret)
        };
        self.credential(id, secret).or_else(decoded)
    }

    fn credential(&self, id: &str, secret: &str) -> Option<String> {
        // For an unknown id the comparison is made with a value that no secret has.
        let expected = self.credentials.get(id).copied().unwrap_or_default();
        let presented = sha256(secret);
        constant_time::verify_slices_are_equal(&expected, &presented).ok()?;
        Some(format!("credential:{id}"))
    }
}

fn sha256(text: &str) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    bytes
}

/// ServiceAccount tokens, reviewed by the Kubernetes API.
struct TokenReviews {
    audience: String,
    api: Api<TokenReview>,
    answers: Cache<Digest, String>,
    /// Tokens that were good: no flood of unknown ones keeps a proxy waiting whose review has just expired.
    known: Cache<Digest, ()>,
    admission: Admission,
}

impl fmt::Debug for TokenReviews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenReviews({})", self.audience)
    }
}

impl TokenReviews {
    fn new(audience: String, api: Api<TokenReview>) -> Self {
        Self {
            audience,
            api,
            answers: Cache::builder()
                .max_capacity(REVIEWS)
                .time_to_live(REVIEW_LIFETIME)
                .build(),
            known: Cache::builder()
                .max_capacity(REVIEWS)
                .time_to_live(KNOWN)
                .build(),
            admission: Admission::new(KNOWN_BOUNDS, UNKNOWN_BOUNDS),
        }
    }

    async fn principal(&self, token: &str) -> Result<Option<String>, HttpError> {
        let key = sha256(token);
        if let Some(known) = self.answers.get(&key) {
            return Ok(Some(known));
        }
        let caller = match self.known.contains_key(&key) {
            true => Caller::Known,
            false => Caller::Unknown,
        };
        let place = self.admission.enter(caller);
        let place = place.ok_or_else(|| {
            unavailable("too many ServiceAccount tokens are waiting for review; try again")
        })?;
        let turn = place.turn().await;
        if let Some(known) = self.answers.get(&key) {
            return Ok(Some(known));
        }
        let review = self.review(token).await?;
        drop(turn);
        let principal = reviewed(review, &self.audience);
        match &principal {
            Some(principal) => {
                self.answers.insert(key, principal.clone());
                self.known.insert(key, ());
            }
            None => self.known.invalidate(&key),
        }
        Ok(principal)
    }

    /// Asks the API server.
    async fn review(&self, token: &str) -> Result<TokenReview, HttpError> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![self.audience.clone()]),
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        let params = PostParams::default();
        let answer = self.api.create(&params, &review);
        match tokio::time::timeout(REVIEW_TIMEOUT, answer).await {
            Ok(Ok(review)) => Ok(review),
            Ok(Err(error)) => {
                tracing::error!(%error, "TokenReview failed; the ServiceAccount needs permission to create tokenreviews");
                Err(unavailable(
                    "the Kubernetes API refuses to review ServiceAccount tokens; see the authorization server's log",
                ))
            }
            Err(_) => Err(unavailable("the Kubernetes API does not answer; try again")),
        }
    }
}

fn unavailable(text: &'static str) -> HttpError {
    OAuthError::TemporarilyUnavailable(text.into()).into()
}

/// Whom a review names, when the token is good and for this audience.
fn reviewed(review: TokenReview, audience: &str) -> Option<String> {
    let status = review.status?;
    let for_us = status
        .audiences
        .is_some_and(|audiences| audiences.iter().any(|known| known == audience));
    if status.authenticated != Some(true) || !for_us {
        return None;
    }
    // Of other users the cluster's administrator chose the names, and one may look like a credential's.
    let is_service_account = |name: &String| name.starts_with("system:serviceaccount:");
    status.user?.username.filter(is_service_account)
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};

    #[test]
    fn a_basic_secret_is_taken_as_it_is_and_form_encoded() {
        let authentication = InternalAuthentication {
            credentials: HashMap::from([("a:b".into(), sha256("s+/="))]),
            admins: Vec::new(),
            reviews: None,
        };
        let known = Some("credential:a:b".to_owned());
        assert_eq!(authentication.basic("a:b", "s+/="), known);
        assert_eq!(authentication.basic("a%3Ab", "s%2B%2F%3D"), known);
        for (id, secret) in [("a:b", "s /="), ("a:b", "s%252B%252F%253D"), ("a", "s+/=")] {
            assert_eq!(authentication.basic(id, secret), None, "{id} {secret}");
        }
        // A hash would be enough to guess a weak secret.
        let shown = "InternalAuthentication { admins: [], reviews: None, .. }";
        assert_eq!(format!("{authentication:?}"), shown);
    }

    fn review(authenticated: bool, audience: &str) -> TokenReview {
        TokenReview {
            status: Some(TokenReviewStatus {
                authenticated: Some(authenticated),
                audiences: Some(vec![audience.into()]),
                user: Some(UserInfo {
                    username: Some("system:serviceaccount:default:notes".into()),
                    ..UserInfo::default()
                }),
                error: None,
            }),
            ..TokenReview::default()
        }
    }

    #[test]
    fn service_account_token_with_the_wrong_audience() {
        let name = Some("system:serviceaccount:default:notes".to_owned());
        assert_eq!(reviewed(review(true, "http://us"), "http://us"), name);
        assert_eq!(reviewed(review(true, "http://them"), "http://us"), None);
        assert_eq!(reviewed(TokenReview::default(), "http://us"), None);
    }

    #[test]
    fn a_deleted_pods_token() {
        assert_eq!(reviewed(review(false, "http://us"), "http://us"), None);
    }

    /// The Kubernetes API knows the token `good`, and takes its time with all others.
    fn reviews() -> TokenReviews {
        let api = tower::service_fn(|request: http::Request<kube::client::Body>| async move {
            let body = request.into_body().collect_bytes().await?;
            let mut asked: TokenReview = serde_json::from_slice(&body)?;
            if asked.spec.token.as_deref() != Some("good") {
                std::future::pending::<()>().await;
            }
            asked.status = review(true, "http://us").status;
            let body = kube::client::Body::from(serde_json::to_vec(&asked)?);
            Ok::<_, tower::BoxError>(http::Response::new(body))
        });
        let client = kube::Client::new(api, "default");
        TokenReviews::new("http://us".into(), Api::all(client))
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_unknown_tokens_keeps_no_known_one_waiting() {
        let reviews = std::sync::Arc::new(reviews());
        let known = Some("system:serviceaccount:default:notes".to_owned());
        assert_eq!(reviews.principal("good").await.unwrap(), known);
        for flood in 0..1000 {
            let reviews = reviews.clone();
            tokio::spawn(async move { reviews.principal(&format!("flood-{flood}")).await });
        }
        while reviews.admission.enter(Caller::Unknown).is_some() {
            tokio::task::yield_now().await;
        }
        let turned_away = reviews.principal("one more").await.unwrap_err();
        assert_eq!(turned_away.status(), http::StatusCode::SERVICE_UNAVAILABLE);
        // A minute later.
        reviews.answers.invalidate_all();
        let begin = tokio::time::Instant::now();
        assert_eq!(reviews.principal("good").await.unwrap(), known);
        assert_eq!(begin.elapsed(), Duration::ZERO, "on a clock that stands");
    }

    #[tokio::test]
    async fn a_token_that_is_refused_or_cannot_be_reviewed_is_not_logged() {
        let logs = mcpauth_test_support::logs::capture();
        let api = tower::service_fn(|request: http::Request<kube::client::Body>| async move {
            let body = request.into_body().collect_bytes().await?;
            let mut asked: TokenReview = serde_json::from_slice(&body)?;
            asked.status = Some(TokenReviewStatus::default());
            let (status, body) = match asked.spec.token.as_deref() {
                Some("hidden-refused") => (201, serde_json::to_vec(&asked)?),
                _ => (
                    403,
                    br#"{"kind":"Status","code":403,"message":"no"}"#.to_vec(),
                ),
            };
            let response = http::Response::builder().status(status);
            Ok::<_, tower::BoxError>(response.body(kube::client::Body::from(body))?)
        });
        let client = kube::Client::new(api, "default");
        let authentication = InternalAuthentication {
            credentials: HashMap::new(),
            admins: Vec::new(),
            reviews: Some(TokenReviews::new("http://us".into(), Api::all(client))),
        };
        let ask = async |token: &str| {
            let value = format!("Bearer {token}").parse().unwrap();
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value)]);
            authentication.principal(&headers).await.unwrap_err()
        };
        assert_eq!(ask("hidden-refused").await.status(), 401);
        assert_eq!(ask("hidden-forbidden").await.status(), 503);
        assert_eq!(logs.containing("TokenReview failed").len(), 1);
        logs.assert_free_of(&["hidden-refused", "hidden-forbidden"]);
    }

    #[test]
    fn a_user_whose_name_looks_like_a_credential() {
        for name in ["credential:operator", "system:admin", ""] {
            let mut review = review(true, "http://us");
            let user = review.status.as_mut().unwrap().user.as_mut().unwrap();
            user.username = Some(name.into());
            assert_eq!(reviewed(review, "http://us"), None, "{name}");
        }
    }
}
