//! A small OAuth 2.1 client for an authorization server that approves everybody: registration
//! (RFC 7591), authorization code with PKCE (RFC 7636), refresh, revocation (RFC 7009).

use anyhow::{Context as _, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{Response, StatusCode, header::LOCATION, redirect::Policy};
use serde_json::{Value, json};
use url::Url;

const REDIRECT: &str = "http://127.0.0.1:33418/callback";

/// A registered public client.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    issuer: String,
    /// The client identifier that the server gave.
    pub id: String,
}

/// What the token endpoint gave.
#[derive(Clone)]
pub struct Tokens {
    /// The access token.
    pub access: String,
    /// The refresh token.
    pub refresh: String,
    /// The scopes, separated by spaces.
    pub scope: String,
}

/// An HTTP client that follows no redirect and opens a connection for each request, so that no
/// request fails because a pod at the other end of an old connection is gone.
///
/// # Errors
/// When the operating system does not allow one.
pub fn http() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder()
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .build()?)
}

impl Client {
    /// Registers a public client.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn register(issuer: &str) -> Result<Self> {
        let http = http()?;
        let response = http
            .post(format!("{issuer}/register"))
            .json(&json!({
                "client_name": "tests",
                "redirect_uris": [REDIRECT],
                "grant_types": ["authorization_code", "refresh_token"],
                "token_endpoint_auth_method": "none",
            }))
            .send()
            .await?;
        let body = success(response).await?;
        Ok(Self {
            http,
            issuer: issuer.to_owned(),
            id: text(&body, "client_id")?,
        })
    }

    /// Gets tokens for `resource` with `scope`, as the one user whom the server approves.
    ///
    /// # Errors
    /// When a step of the flow is refused.
    pub async fn authorize(&self, resource: &str, scope: &str) -> Result<Tokens> {
        let verifier = random()?;
        let state = random()?;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
        let challenge = URL_SAFE_NO_PAD.encode(digest);
        let response = self
            .http
            .get(format!("{}/authorize", self.issuer))
            .query(&[
                ("response_type", "code"),
                ("client_id", &self.id),
                ("redirect_uri", REDIRECT),
                ("code_challenge", &challenge),
                ("code_challenge_method", "S256"),
                ("state", &state),
                ("scope", scope),
                ("resource", resource),
            ])
            .send()
            .await?;
        let status = response.status();
        let location = response
            .headers()
            .get(LOCATION)
            .map(|value| value.to_str().map(str::to_owned))
            .transpose()?;
        let Some(location) = location else {
            bail!(
                "/authorize: {status} without Location: {}",
                response.text().await?
            );
        };
        let location = Url::parse(&location)?;
        let parameter = |name: &str| {
            location
                .query_pairs()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        let code = parameter("code").with_context(|| format!("no code in {location}"))?;
        ensure!(parameter("state") == Some(state), "another state came back");
        ensure!(
            parameter("iss").as_deref() == Some(&self.issuer),
            "iss (RFC 9207) is not the issuer: {location}"
        );
        self.token(&[
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", REDIRECT),
            ("code_verifier", &verifier),
            ("resource", resource),
        ])
        .await
    }

    /// Exchanges a refresh token.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn refresh(&self, tokens: &Tokens) -> Result<Tokens> {
        self.token(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", &tokens.refresh),
        ])
        .await
    }

    /// Revokes a token.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn revoke(&self, token: &str) -> Result<()> {
        let response = self
            .http
            .post(format!("{}/revoke", self.issuer))
            .form(&[("token", token), ("client_id", &self.id)])
            .send()
            .await?;
        ensure!(
            response.status() == StatusCode::OK,
            "/revoke: {}",
            response.status()
        );
        Ok(())
    }

    async fn token(&self, form: &[(&str, &str)]) -> Result<Tokens> {
        let mut form = form.to_vec();
        form.push(("client_id", &self.id));
        let response = self
            .http
            .post(format!("{}/token", self.issuer))
            .form(&form)
            .send()
            .await?;
        let body = success(response).await?;
        Ok(Tokens {
            access: text(&body, "access_token")?,
            refresh: text(&body, "refresh_token")?,
            scope: text(&body, "scope")?,
        })
    }
}

/// The JSON body of a response of 2xx.
async fn success(response: Response) -> Result<Value> {
    let (status, url) = (response.status(), response.url().path().to_owned());
    let body = response.text().await?;
    ensure!(status.is_success(), "{url}: {status} {body}");
    serde_json::from_str(&body).with_context(|| format!("{url}: not JSON"))
}

fn text(body: &Value, name: &str) -> Result<String> {
    body[name]
        .as_str()
        .map(str::to_owned)
        .with_context(|| format!("the answer has no {name}"))
}

fn random() -> Result<String> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).context("no randomness")?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
