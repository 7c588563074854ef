//! A real browser: Chromium by way of chromedriver. Of W3C WebDriver this has the few commands that the
//! tests of the pages need; the crates for it bring more dependencies than this has lines.

use std::io::{BufRead as _, BufReader};
use std::process::{ChildStdout, Command, Stdio};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use mcpauth_test_support::process::Process;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";

const MISSING: &str = "Chromium is missing: `scripts/tools.sh browser` installs it";
/// Nothing but loopback is reached, as whichever user, without a screen.
const ARGUMENTS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",
];
/// The browser that the tests share; one at a time has its tab. Each test has a server of its own, so
/// none sees the cookies of another.
struct Chromium {
    session: String,
    turn: Mutex<()>,
    _driver: Process,
    _profile: TempDir,
    _output: BufReader<ChildStdout>,
}

impl Chromium {
    async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new("chromedriver");
        command
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = Process::start(&mut command);
        let mut output = BufReader::new(process.stdout());
        let driver = format!("http://127.0.0.1:{}", port(&mut output));
        let mut arguments = ARGUMENTS.map(str::to_owned).to_vec();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
            "goog:loggingPrefs": { "browser": "ALL" },
            "timeouts": { "implicit": 30_000 },
        } } });
        let answer = send(
            &client(),
            Method::POST,
            &format!("{driver}/session"),
            &wanted,
        )
        .await;
        let session = answer.unwrap_or_else(|error| panic!("{MISSING}\n{error}"));
        Self {
            session: format!(
                "{driver}/session/{}",
                session["sessionId"].as_str().unwrap()
            ),
            turn: Mutex::new(()),
            _driver: process,
            _profile: profile,
            _output: output,
        }
    }
}

/// The port that the driver chose.
fn port(output: &mut BufReader<ChildStdout>) -> u16 {
    let line = output.lines().map(Result::unwrap).find_map(|line| {
        let (_, port) = line.split_once("started successfully on port ")?;
        port.trim_end_matches('.').parse().ok()
    });
    line.unwrap_or_else(|| panic!("{MISSING}"))
}

/// The browser's tab, for one test.
pub struct Tab {
    http: Client<HttpConnector, Full<Bytes>>,
    session: &'static str,
    _turn: MutexGuard<'static, ()>,
}

impl Tab {
    /// Waits until no other test has it.
    pub async fn take() -> Self {
        static SHARED: OnceCell<Chromium> = OnceCell::const_new();
        let chromium = SHARED.get_or_init(Chromium::start).await;
        let tab = Self {
            http: client(),
            session: &chromium.session,
            _turn: chromium.turn.lock().await,
        };
        tab.leave_frame().await;
        tab.command("Emulation.clearDeviceMetricsOverride", json!({}))
            .await;
        tab.open("about:blank").await;
        tab.console().await;
        tab
    }

    pub async fn open(&self, url: &str) {
        self.post("/url", json!({ "url": url })).await;
    }

    pub async fn url(&self) -> String {
        let url = self.ask(Method::GET, "/url", json!({})).await;
        url.as_str().unwrap().to_owned()
    }

    /// Waits for an element with this CSS selector; the path of commands to it.
    pub async fn see(&self, selector: &str) -> String {
        let wanted = json!({ "using": "css selector", "value": selector });
        let found = self.post("/element", wanted).await;
        // The name of the one member is fixed by WebDriver.
        let id = found.as_object().unwrap().values().next().unwrap();
        format!("/element/{}", id.as_str().unwrap())
    }

    pub async fn text(&self, selector: &str) -> String {
        self.property(selector, "text").await
    }

    /// The name that a screen reader says.
    pub async fn label(&self, selector: &str) -> String {
        self.property(selector, "computedlabel").await
    }

    async fn property(&self, selector: &str, name: &str) -> String {
        let path = format!("{}/{name}", self.see(selector).await);
        let text = self.ask(Method::GET, &path, json!({})).await;
        text.as_str().unwrap().to_owned()
    }

    pub async fn click(&self, selector: &str) {
        let path = format!("{}/click", self.see(selector).await);
        self.post(&path, json!({})).await;
    }

    /// Types into the element.
    pub async fn fill(&self, selector: &str, text: &str) {
        let path = format!("{}/value", self.see(selector).await);
        self.post(&path, json!({ "text": text })).await;
    }

    /// Presses keys, wherever the focus is.
    pub async fn press(&self, keys: &str) {
        let press = |key| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key }));
        let strokes: Vec<Value> = keys.chars().flat_map(press).collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": strokes });
        self.post("/actions", json!({ "actions": [keyboard] }))
            .await;
    }

    /// What this script returns in the page.
    pub async fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", json!({ "script": script, "args": [] }))
            .await
    }

    pub async fn enter_frame(&self) {
        self.post("/frame", json!({ "id": 0 })).await;
    }

    pub async fn leave_frame(&self) {
        self.post("/frame", json!({ "id": null })).await;
    }

    /// A command of Chromium's own protocol.
    pub async fn command(&self, name: &str, params: Value) {
        let command = json!({ "cmd": name, "params": params });
        self.post("/goog/cdp/execute", command).await;
    }

    /// The console's messages since it was last asked, but for those that only tell of a status.
    pub async fn console(&self) -> Vec<String> {
        let log = self.post("/se/log", json!({ "type": "browser" })).await;
        let entries = log.as_array().unwrap().iter();
        let texts = entries.map(|entry| entry["message"].as_str().unwrap().to_owned());
        texts
            .filter(|text| !text.contains("responded with a status of"))
            .collect()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.ask(Method::POST, path, body).await
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        let url = format!("{}{path}", self.session);
        match send(&self.http, method, &url, &body).await {
            Ok(value) => value,
            Err(error) => {
                let url = format!("{}/source", self.session);
                let page = send(&self.http, Method::GET, &url, &json!({})).await;
                panic!("{path} {body}: {error}\n{page:?}");
            }
        }
    }
}

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn send(
    http: &Client<HttpConnector, Full<Bytes>>,
    method: Method,
    url: &str,
    body: &Value,
) -> Result<Value, Value> {
    let body = match method {
        Method::GET => String::new(),
        _ => body.to_string(),
    };
    let request = Request::builder().method(method).uri(url);
    let response = http
        .request(request.body(body.into()).unwrap())
        .await
        .unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let mut answer: Value = serde_json::from_slice(&body).unwrap();
    let value = answer["value"].take();
    if parts.status.is_success() {
        Ok(value)
    } else {
        Err(value)
    }
}
