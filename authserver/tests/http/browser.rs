//! A browser: cookies, forms, and no redirects followed unasked.

use std::collections::BTreeMap;

use http::{HeaderMap, Method, header};

use crate::server::{Answer, FORM, PASSWORD, TestServer, query};

#[derive(Default)]
pub struct Browser {
    cookies: BTreeMap<String, String>,
}

impl Browser {
    /// A browser in which this user has logged in.
    pub async fn of(server: &TestServer, user: &str) -> Self {
        let mut browser = Self::default();
        let page = browser
            .get(server, &crate::server::authorize_path(&[]))
            .await;
        let answer = browser.log_in(server, &page, user, PASSWORD).await;
        assert_eq!(answer.status, 303, "{answer:?}");
        browser
    }

    pub async fn get(&mut self, server: &TestServer, path: &str) -> Answer {
        let request = server
            .public(Method::GET, path)
            .header(header::COOKIE, self.cookie_header());
        let answer = server.send(request.body(Default::default()).unwrap()).await;
        self.keep(&answer.headers);
        answer
    }

    pub async fn post(&mut self, server: &TestServer, path: &str, form: &[(&str, &str)]) -> Answer {
        let request = server
            .public(Method::POST, path)
            .header(header::COOKIE, self.cookie_header())
            .header(header::CONTENT_TYPE, FORM);
        let answer = server.send(request.body(query(form).into()).unwrap()).await;
        self.keep(&answer.headers);
        answer
    }

    pub async fn log_in(
        &mut self,
        server: &TestServer,
        page: &Answer,
        user: &str,
        password: &str,
    ) -> Answer {
        let ticket = ticket(page);
        let form = [
            ("ticket", ticket.as_str()),
            ("username", user),
            ("password", password),
        ];
        self.post(server, "/login", &form).await
    }

    pub async fn decide(&mut self, server: &TestServer, ticket: &str, decision: &str) -> Answer {
        let form = [("ticket", ticket), ("decision", decision)];
        self.post(server, "/consent", &form).await
    }

    pub fn cookie(&self, name: &str) -> &str {
        let found = self.cookies.iter().find(|(known, _)| known.contains(name));
        found.map_or("", |(_, value)| value)
    }

    /// Plants a cookie, as an attacker would.
    pub fn plant(&mut self, name: &str, value: &str) {
        let found = self
            .cookies
            .iter_mut()
            .find(|(known, _)| known.contains(name));
        *found.unwrap().1 = value.to_owned();
    }

    pub fn cookie_header(&self) -> String {
        let pairs = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }

    pub fn keep(&mut self, headers: &HeaderMap) {
        for line in headers.get_all(header::SET_COOKIE) {
            let pair = line.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
    }
}

/// The ticket in a page's form.
pub fn ticket(page: &Answer) -> String {
    let (_, rest) = page
        .body
        .split_once(r#"name="ticket" value=""#)
        .unwrap_or_else(|| panic!("no form: {page:?}"));
    rest.split('"').next().unwrap().to_owned()
}
