//! The question to the authorization server (RFC 7662): one request, one answer, nothing
//! remembered.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use mcpauth_wire::introspection::Answer;
use url::form_urlencoded::{Serializer, byte_serialize};

use crate::config;

/// The client for everything that the proxy calls.
pub type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// The longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// The endpoint and our credential for it.
#[derive(Clone, Debug)]
pub struct Introspector {
    client: HttpClient,
    endpoint: Uri,
    credential: Credential,
}

#[derive(Clone, Debug)]
enum Credential {
    TokenFile(PathBuf),
    Basic { id: String, secret_file: PathBuf },
}

/// Why there is no answer. No token is in it.
#[derive(Debug, thiserror::Error)]
pub enum IntrospectionError {
    /// The credential cannot be read.
    #[error("cannot read the proxy's credential {path}: {reason}")]
    Credential {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The endpoint does not accept the credential.
    #[error(
        "the introspection endpoint refuses the proxy's own credential with status {0}; \
         check that the resource lists this proxy as an introspector"
    )]
    Refused(StatusCode),
    /// The endpoint answers with an error.
    #[error("the introspection endpoint answered with status {0}")]
    Status(StatusCode),
    /// The endpoint cannot be reached, or breaks off.
    #[error("the introspection endpoint is not reachable: {0}")]
    Transport(String),
    /// The answer is not what RFC 7662 says.
    #[error("the introspection endpoint's answer is malformed: {0}")]
    Malformed(String),
    /// No answer in time.
    #[error("the introspection endpoint did not answer in time")]
    Timeout,
    /// Too many questions wait already.
    #[error("too many introspection requests are waiting")]
    Busy,
}

impl Introspector {
    /// From a checked configuration.
    ///
    /// # Errors
    /// The endpoint is no URI, or there is no credential.
    pub fn new(client: HttpClient, config: &config::Introspection) -> Result<Self, String> {
        let credential = match (&config.token_file, &config.basic) {
            (Some(path), _) => Credential::TokenFile(path.clone()),
            (None, Some(basic)) => Credential::Basic {
                id: basic.id.clone(),
                secret_file: basic.secret_file.clone(),
            },
            (None, None) => return Err("introspection: has no credential".into()),
        };
        let endpoint = config.endpoint.parse();
        Ok(Self {
            client,
            endpoint: endpoint.map_err(|error| format!("introspection.endpoint: {error}"))?,
            credential,
        })
    }

    /// Asks about `token`.
    ///
    /// # Errors
    /// There is no usable answer: the caller fails closed.
    pub async fn introspect(&self, token: &str) -> Result<Answer, IntrospectionError> {
        let form = Serializer::new(String::new())
            .append_pair("token", token)
            .append_pair("token_type_hint", "access_token")
            .finish();
        let request = Request::post(self.endpoint.clone())
            .header(AUTHORIZATION, self.credential.header()?)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(Full::from(form))
            .map_err(|error| IntrospectionError::Transport(error.to_string()))?;
        let response = self.client.request(request).await;
        let response = response.map_err(|error| IntrospectionError::Transport(chain(&error)))?;
        match response.status() {
            StatusCode::OK => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(IntrospectionError::Refused(status));
            }
            status => return Err(IntrospectionError::Status(status)),
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await;
        let body = body.map_err(|error| IntrospectionError::Transport(error.to_string()))?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| {
            // The message of a type error quotes values: who knows which.
            let (line, column) = (error.line(), error.column());
            IntrospectionError::Malformed(format!("not as RFC 7662 says at {line}:{column}"))
        })
    }
}

impl Credential {
    /// The header, from the file as it is now: a projected token changes every hour. Reading a
    /// small file on a memory file system takes less time than handing it to another thread would.
    fn header(&self) -> Result<HeaderValue, IntrospectionError> {
        let (path, text) = match self {
            Self::TokenFile(path) => (path, format!("Bearer {}", read(path)?)),
            Self::Basic { id, secret_file } => {
                let encode = |part: &str| byte_serialize(part.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encode(id), encode(&read(secret_file)?));
                (secret_file, format!("Basic {}", STANDARD.encode(pair)))
            }
        };
        let mut value =
            HeaderValue::try_from(text).map_err(|_| IntrospectionError::Credential {
                path: path.clone(),
                reason: "it has characters that no header can carry".into(),
            })?;
        value.set_sensitive(true);
        Ok(value)
    }
}

fn read(path: &Path) -> Result<String, IntrospectionError> {
    let failed = |reason: String| IntrospectionError::Credential {
        path: path.to_owned(),
        reason,
    };
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    match text.trim() {
        "" => Err(failed("it is empty".into())),
        text => Ok(text.to_owned()),
    }
}

/// An error with its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
