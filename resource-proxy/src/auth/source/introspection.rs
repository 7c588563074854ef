//! One introspection request to the authorization server (RFC 7662). Nothing is cached here.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use mcpauth_service::otlp;
use mcpauth_wire::introspection::{Answer, GRANTABLE_SCOPE};
use tracing::{Instrument as _, Span};
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::auth::source::SourceError;
use crate::client::{HttpClient, IntrospectionClient, with_causes};
use crate::config;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// The introspection endpoint and the proxy's credential for it.
#[derive(Clone, Debug)]
pub struct Introspector {
    client: IntrospectionClient,
    endpoint: Uri,
    credential: Credential,
    /// Whether to ask for the grantable scopes; then, whether the log says that an answer had none.
    grantable: Option<Arc<AtomicBool>>,
}

#[derive(Clone, Debug)]
enum Credential {
    TokenFile(PathBuf),
    Basic { id: String, secret_file: PathBuf },
}

impl Introspector {
    /// From a checked configuration; `client` is for an endpoint without TLS. `asks_grantable`: the answers are to say which
    /// scopes client and user may have.
    ///
    /// # Errors
    /// The endpoint is not a URI, the CA cannot be used, or there is no credential.
    pub fn new(
        client: HttpClient,
        config: &config::Introspection,
        asks_grantable: bool,
    ) -> Result<Self, String> {
        let credential = match (&config.token_file, &config.basic) {
            (Some(path), _) => Credential::TokenFile(path.clone()),
            (None, Some(basic)) => Credential::Basic {
                id: basic.id.clone(),
                secret_file: basic.secret_file.clone(),
            },
            (None, None) => {
                return Err("introspection: has no credential; set `tokenFile` or `basic`".into());
            }
        };
        let client = match &config.ca {
            None => IntrospectionClient::Clear(client),
            Some(ca) => IntrospectionClient::with_ca(ca)
                .map_err(|error| format!("introspection.ca: {error}"))?,
        };
        let endpoint = config.endpoint.parse();
        Ok(Self {
            client,
            endpoint: endpoint.map_err(|error| format!("introspection.endpoint: {error}"))?,
            credential,
            grantable: asks_grantable.then(Arc::default),
        })
    }

    /// Asks about `token`.
    ///
    /// # Errors
    /// There is no usable answer: the caller fails closed.
    pub async fn introspect(&self, token: &str) -> Result<Answer, SourceError> {
        let answer = match self.ask(token).await {
            // A replica that stops may close its connection when the request is on its way. To ask changes nothing, so
            // it is asked again, on another connection.
            Err(SourceError::Transport(_)) => self.ask(token).await,
            answer => answer,
        }?;
        self.warn_without_grantable(&answer);
        Ok(answer)
    }

    /// Says once that lists show less than they are configured to.
    fn warn_without_grantable(&self, answer: &Answer) {
        if let Some(said) = &self.grantable
            && answer.active
            && answer.grantable_scope.is_none()
            && !said.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                "the authorization server does not say which scopes the client and user of a token may have; \
                 lists show what a token may use, as with `access.lists: Held`, until it is upgraded"
            );
        }
    }

    async fn ask(&self, token: &str) -> Result<Answer, SourceError> {
        let span = otlp::call_span("introspection");
        let answer = self.exchange(token, &span);
        let answer = answer.instrument(span.clone()).await;
        if answer.is_err() {
            otlp::failed(&span);
        }
        answer
    }

    async fn exchange(&self, token: &str, span: &Span) -> Result<Answer, SourceError> {
        let grantable = self.grantable.as_ref().map(|_| (GRANTABLE_SCOPE, "true"));
        let form = Serializer::new(String::new())
            .append_pair("token", token)
            .append_pair("token_type_hint", "access_token")
            .extend_pairs(grantable)
            .finish();
        let mut request = Request::post(self.endpoint.clone())
            .header(AUTHORIZATION, self.credential.header()?)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(Full::from(form))
            .map_err(|error| SourceError::Transport(error.to_string()))?;
        otlp::pass_on(span, request.headers_mut());
        let response = self.client.request(request).await;
        let response = response.map_err(|error| SourceError::Transport(with_causes(&error)))?;
        otlp::answered(span, response.status().as_u16());
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(SourceError::Rejected(status));
            }
            status => return Err(SourceError::Status(status)),
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        let body = body.map_err(|error| SourceError::Transport(error.to_string()))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| {
            // serde's message quotes values, and one of them could be the token.
            let (line, column) = (error.line(), error.column());
            SourceError::Malformed(format!(
                "it does not conform to RFC 7662 at line {line}, column {column}"
            ))
        })
    }
}

impl Credential {
    /// The header, from the file as it is now, because a projected token is replaced every hour. It
    /// is read here and not on another thread: reading a small file from a memory file system is
    /// faster than handing the work over.
    fn header(&self) -> Result<HeaderValue, SourceError> {
        let (path, text) = match self {
            Self::TokenFile(path) => (path, format!("Bearer {}", read(path)?)),
            Self::Basic { id, secret_file } => {
                let encode = |part: &str| byte_serialize(part.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encode(id), encode(&read(secret_file)?));
                (secret_file, format!("Basic {}", STANDARD.encode(pair)))
            }
        };
        let mut value = HeaderValue::try_from(text).map_err(|_| SourceError::Credential {
            path: path.clone(),
            reason: "it has characters that a header cannot carry".into(),
        })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn read(path: &Path) -> Result<String, SourceError> {
    let failed = |reason: String| SourceError::Credential {
        path: path.to_owned(),
        reason,
    };
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    match text.trim() {
        "" => Err(failed("it is empty".into())),
        text => Ok(text.to_owned()),
    }
}
