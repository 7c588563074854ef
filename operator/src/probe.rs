//! `probe`: checks from outside whether an operator is ready. `helm test` runs it, because the image has no other
//! program for that.

use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::text::shorten;

/// Time between requests.
const PAUSE: Duration = Duration::from_secs(1);
/// Timeout of one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum length of a response that is shown, in bytes.
const ANSWER: usize = 300;

type Asking = Client<HttpConnector, Empty<Bytes>>;

/// Polls `url` until it returns 200, or `patience` has passed.
///
/// # Errors
/// The last response that was not 200.
pub async fn probe(url: &Uri, patience: Duration) -> anyhow::Result<()> {
    let client: Asking = Client::builder(TokioExecutor::new()).build_http();
    let mut last = String::from("it did not respond");
    let ready = async {
        while let Err(problem) = ask(&client, url).await {
            last = problem;
            tokio::time::sleep(PAUSE).await;
        }
    };
    if tokio::time::timeout(patience, ready).await.is_err() {
        bail!(
            "{url} did not become ready within {} s: {last}",
            patience.as_secs()
        );
    }
    Ok(())
}

async fn ask(client: &Asking, url: &Uri) -> Result<(), String> {
    let answer = tokio::time::timeout(TIMEOUT, client.get(url.clone())).await;
    let answer = answer
        .map_err(|_| format!("no response within {} s", TIMEOUT.as_secs()))?
        .map_err(|error| format!("{:#}", anyhow::Error::from(error)))?;
    let status = answer.status();
    if status == http::StatusCode::OK {
        return Ok(());
    }
    let body = Limited::new(answer.into_body(), 16 * ANSWER).collect();
    let body = tokio::time::timeout(TIMEOUT, body).await;
    let bytes = body
        .ok()
        .and_then(Result::ok)
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    Err(format!(
        "it returns {status}: {}",
        shorten(text.trim(), ANSWER)
    ))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Serves the responses in order, and repeats the last one.
    async fn server(answers: &'static [&'static str]) -> Uri {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut number = 0;
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let answer = answers[number.min(answers.len() - 1)];
                number += 1;
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        format!("http://{address}/readyz").parse().unwrap()
    }

    const READY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const NOT_YET: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 8\r\nConnection: close\r\n\r\nstarting";

    #[tokio::test]
    async fn waits_until_it_is_ready() {
        let url = server(&[NOT_YET, READY]).await;
        probe(&url, Duration::from_secs(30)).await.unwrap();
    }

    #[tokio::test]
    async fn says_what_it_was_told_last() {
        let url = server(&[NOT_YET]).await;
        let error = probe(&url, Duration::from_secs(2)).await.unwrap_err();
        assert!(error.to_string().contains("503"), "{error}");
        assert!(error.to_string().contains("starting"), "{error}");
    }

    #[tokio::test]
    async fn says_that_nobody_listens() {
        let url = "http://127.0.0.1:1/readyz".parse().unwrap();
        let error = probe(&url, Duration::from_secs(2)).await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
