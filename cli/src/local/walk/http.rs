//! HTTP requests of the scripted client.

use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::{Client, Response, StatusCode, redirect::Policy};
use serde_json::Value;

/// Longer than the longest delay that friction adds by default.
const TIMEOUT: Duration = Duration::from_secs(60);
const BRIEF: usize = 160;

/// A client that does not follow redirects, because the flow reads the Location header.
pub fn client() -> anyhow::Result<Client> {
    Ok(Client::builder()
        .redirect(Policy::none())
        .timeout(TIMEOUT)
        .build()?)
}

/// GETs a JSON document.
pub async fn get_json(http: &Client, url: &str) -> anyhow::Result<Value> {
    json(http.get(url).send().await?, StatusCode::OK).await
}

/// The JSON body of a response with the expected status.
pub async fn json(response: Response, expected: StatusCode) -> anyhow::Result<Value> {
    let url = response.url().to_string();
    let status = response.status();
    let text = response.text().await?;
    ensure!(
        status == expected,
        "{url} returned {status}, expected {expected}: {text}"
    );
    serde_json::from_str(&text)
        .with_context(|| format!("{url} returned a body that is not JSON: {text}"))
}

/// A required string member of a document.
pub fn text<'a>(document: &'a Value, member: &str) -> anyhow::Result<&'a str> {
    document[member]
        .as_str()
        .with_context(|| format!("{member} is missing in {document}"))
}

/// JSON on one line, shortened.
pub fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= BRIEF {
        return text;
    }
    text.chars().take(BRIEF).chain(['…']).collect()
}
