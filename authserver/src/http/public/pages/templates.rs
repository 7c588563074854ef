//! The pages that users see: plain HTML, without scripts or external content.

use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, StatusCode, header};

/// The style of all pages; it stands in the page itself, without the newline at its end.
const STYLE: &str = include_str!("../../../../templates/style.css");

/// What browsers may do with a page: show it in its own window, with its own style. There is no
/// `form-action`, because browsers apply it to the redirect to the client as well.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.trim_end().as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; frame-ancestors 'none'"
    )
});

/// How many characters of a text from outside are shown.
const MAX_SHOWN: usize = 200;

/// An error that only the user sees.
#[derive(Debug, Template)]
#[template(path = "error.html")]
pub struct ErrorPage<'a> {
    /// What is wrong, in one line.
    pub title: &'a str,
    /// Why, and what to do.
    pub message: &'a str,
}

/// An error that the client gets only if the user follows the link.
#[derive(Debug, Template)]
#[template(path = "return.html")]
pub struct ReturnPage<'a> {
    /// Who asked for access.
    pub client_name: &'a str,
    /// What is wrong.
    pub message: &'a str,
    /// Where the response is sent.
    pub destination: &'a str,
    /// The whole URL of that, an https one.
    pub url: &'a str,
}

/// The login form.
#[derive(Debug, Template)]
#[template(path = "login.html")]
pub struct LoginPage<'a> {
    /// The server that the user's account is at: its host and path.
    pub server: &'a str,
    /// Who asks for access.
    pub client_name: &'a str,
    /// Where the form goes.
    pub action: &'a str,
    /// The signed authorization request.
    pub ticket: &'a str,
    /// The user name of the last try.
    pub username: &'a str,
    /// What was wrong with the last try.
    pub error: Option<&'a str>,
}

/// The consent form.
#[derive(Debug, Template)]
#[template(path = "consent.html")]
pub struct ConsentPage<'a> {
    /// Who asks for access.
    pub client_name: &'a str,
    /// Its identifier: names can look alike.
    pub client_id: &'a str,
    /// Whether the client registered itself.
    pub self_registered: bool,
    /// Where the response is sent.
    pub destination: &'a str,
    /// Whether that is a program on the user's machine, of which there are many.
    pub on_this_computer: bool,
    /// The name of the resource.
    pub resource_name: &'a str,
    /// Its URI.
    pub resource: &'a str,
    /// What is asked for.
    pub scopes: &'a [ScopeLine],
    /// Who is logged in.
    pub subject: &'a str,
    /// Where another user can sign in for this request.
    pub switch_user: &'a str,
    /// Where the form goes.
    pub action: &'a str,
    /// The signed authorization request.
    pub ticket: &'a str,
}

/// A scope as the user reads it.
#[derive(Debug)]
pub struct ScopeLine {
    /// The description; the name when there is none.
    pub description: String,
    /// The name beside a description.
    pub name: Option<String>,
}

/// Renders a page with the headers that all pages have.
pub fn render<T: Template>(status: StatusCode, page: &T) -> Response {
    let html = match page.render() {
        Ok(html) => html,
        Err(error) => {
            tracing::error!(%error, "cannot render a page");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let mut response = (status, Html(html)).into_response();
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in FIXED {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

const FIXED: [(HeaderName, &str); 4] = [
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// The page for an error that only the user sees.
pub fn error(status: StatusCode, title: &str, message: &str) -> Response {
    render(status, &ErrorPage { title, message })
}

/// Askama's filters of our own.
mod filters {
    /// Untrusted text, with bidirectional controls and invisible characters made visible.
    #[askama::filter_fn]
    pub(super) fn visible(
        text: impl std::fmt::Display,
        _: &dyn askama::Values,
    ) -> askama::Result<String> {
        Ok(super::visible(&text.to_string()))
    }
}

/// Replaces control and invisible characters by U+FFFD, and truncates long text.
pub fn visible(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
            // Letters without a shape.
            || matches!(c, '\u{115f}' | '\u{1160}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}')
    };
    let mut chars = text.chars();
    let shown = chars.by_ref().take(MAX_SHOWN);
    let mut shown: String = shown
        .map(|c| if hidden(c) { '\u{fffd}' } else { c })
        .collect();
    if chars.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bidi_or_look_alike_names_are_escaped() {
        assert_eq!(
            visible("a\u{202e}b\u{200b}\nc"),
            "a\u{fffd}b\u{fffd}\u{fffd}c"
        );
        assert_eq!(visible("Crème brûlée 日本"), "Crème brûlée 日本");
        assert_eq!(visible("\u{3164}\u{2800}"), "\u{fffd}\u{fffd}");
        assert_eq!(visible(&"x".repeat(200)), "x".repeat(200));
        assert_eq!(visible(&"x".repeat(201)), "x".repeat(200) + "…");
        let page = LoginPage {
            server: "auth.example",
            client_name: "<script>\u{202e}",
            action: "/login",
            ticket: "t",
            username: "",
            error: None,
        };
        let html = page.render().unwrap();
        assert!(
            !html.contains("<script>") && !html.contains('\u{202e}'),
            "{html}"
        );
    }

    #[test]
    fn the_policy_allows_the_style_that_stands_in_the_page() {
        let page = ErrorPage {
            title: "t",
            message: "m",
        };
        let html = page.render().unwrap();
        let (_, rest) = html.split_once("<style>").unwrap();
        let (style, _) = rest.split_once("</style>").unwrap();
        assert_eq!(style, STYLE.trim_end());
    }
}
