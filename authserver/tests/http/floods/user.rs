//! Someone whom the server knows.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use http::{Method, header};
use serde_json::Value;
use tokio::time::timeout;

use super::HANGS;
use super::requests::{Raw, Target, ask, post};
use crate::server::{FORM, PASSWORD, VERIFIER, authorize_path, basic, query, text};

/// A user with a browser and a client. Every step must succeed.
pub(super) struct User {
    at: Ipv4Addr,
    name: &'static str,
    target: Target,
    pub cookies: BTreeMap<String, String>,
}

impl User {
    pub fn new(target: Target, at: Ipv4Addr, name: &'static str) -> Self {
        Self {
            at,
            name,
            target,
            cookies: BTreeMap::new(),
        }
    }

    pub async fn browse(&mut self, method: Method, path: &str, form: &[(&str, &str)]) -> Raw {
        let cookies = self.cookies.iter();
        let cookies: Vec<_> = cookies
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let cookies = cookies.join("; ");
        let headers = [
            (header::CONTENT_TYPE, FORM),
            (header::COOKIE, cookies.as_str()),
        ];
        let body = query(form);
        let asked = ask(self.at, self.target.public, (method, path), &headers, &body);
        let answer = timeout(HANGS, asked).await.expect(path).expect(path);
        for line in answer.head.lines() {
            let Some(cookie) = line.strip_prefix("set-cookie: ") else {
                continue;
            };
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        answer
    }

    pub async fn log_in(&mut self) {
        let path = authorize_path(&[("prompt", "login")]);
        let page = self.browse(Method::GET, &path, &[]).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let ticket = page.ticket();
        let form = [
            ("ticket", ticket.as_str()),
            ("username", self.name),
            ("password", PASSWORD),
        ];
        let answer = self.browse(Method::POST, "/login", &form).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
    }

    pub async fn tokens(&mut self) -> Value {
        let page = self.browse(Method::GET, &authorize_path(&[]), &[]).await;
        assert_eq!(page.status, 200, "{}", page.body);
        let ticket = page.ticket();
        let form = [("ticket", ticket.as_str()), ("decision", "allow")];
        let answer = self.browse(Method::POST, "/consent", &form).await;
        let (_, code) = answer.head.split_once("code=").expect(&answer.body);
        let code = code.split('&').next().unwrap();
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", "app"),
            ("code", code),
            ("code_verifier", VERIFIER),
        ];
        let asked = post(self.at, self.target.public, "/token", "", &form);
        let answer = timeout(HANGS, asked).await.unwrap().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    /// What a resource server asks.
    pub async fn introspect(&self, tokens: &Value) {
        let caller = basic("notes-proxy", "secret-of-notes-proxy");
        let token = text(&tokens["access_token"]);
        let form = [("token", token.as_str())];
        let asked = post(self.at, self.target.internal, "/introspect", &caller, &form);
        let answer = timeout(HANGS, asked).await.unwrap().unwrap();
        assert_eq!(answer.json()["active"], true, "{}", answer.body);
    }
}
