//! Login, consent and faults as a user has them: in Chromium, up to the client's own port.

use axum::response::Html;
use http::Uri;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use url::Url;

use crate::chromium::{ENTER, TAB, Tab};
use crate::server::{PASSWORD, TestServer, authorize_path};

const LOGIN: &str = "form[action$='/login']";
const CONSENT: &str = "form[action$='/consent']";
const ALLOW: &str = "button[value=allow]";
const CANCEL: &str = "button[value=deny]";

/// A server with users, the client's port, and the browser.
struct Scene {
    server: TestServer,
    tab: Tab,
    client: String,
    answers: UnboundedReceiver<Uri>,
}

impl Scene {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = format!("http://{}", listener.local_addr().unwrap());
        let (sender, answers) = unbounded_channel();
        let client_app = axum::Router::new()
            .route(
                "/callback",
                axum::routing::get(async move |headers: http::HeaderMap, uri: Uri| {
                    // A13: what it got it could consent with.
                    assert_eq!(headers.get(http::header::COOKIE), None);
                    sender.send(uri).unwrap();
                    Html("<title>The client</title><h1 id=connected>Connected</h1>")
                }),
            )
            .route(
                "/frame",
                axum::routing::get(async |uri: Uri| {
                    let src = uri.query().unwrap().replace('&', "&amp;");
                    Html(format!(
                        "<title>Elsewhere</title><iframe src=\"{src}\"></iframe>"
                    ))
                }),
            );
        tokio::spawn(async move { axum::serve(listener, client_app).await });
        Self {
            server: TestServer::with_users_on_loopback().await,
            tab: Tab::take().await,
            client,
            answers,
        }
    }

    fn authorize_url(&self, changes: &[(&str, &str)]) -> String {
        let redirect_uri = format!("{}/callback", self.client);
        let changes = [&[("redirect_uri", redirect_uri.as_str())], changes].concat();
        self.server.app.core.issuer.url(&authorize_path(&changes))
    }

    async fn authorize(&self, changes: &[(&str, &str)]) {
        self.tab.open(&self.authorize_url(changes)).await;
    }

    async fn log_in(&self, user: &str, password: &str) {
        self.tab.fill("#username", user).await;
        self.tab.fill("#password", password).await;
        self.tab.click("button").await;
    }

    /// Goes all the way to the consent page.
    async fn consent_page(&self, changes: &[(&str, &str)]) {
        self.authorize(changes).await;
        self.log_in("alice", PASSWORD).await;
        self.tab.see(CONSENT).await;
    }

    /// Waits until the browser is at the client; the parameter's value there.
    async fn answer(&mut self) -> impl Fn(&str) -> Option<String> + use<> {
        let uri = self.answers.recv().await.unwrap();
        self.tab.see("#connected").await;
        let url = Url::parse(&format!("http://client{uri}")).unwrap();
        assert_eq!(url.path(), "/callback");
        move |name| {
            let found = url.query_pairs().find(|(known, _)| known == name)?;
            Some(found.1.into_owned())
        }
    }

    async fn console_is_empty(&self) {
        assert_eq!(self.tab.console().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_wrong_password_then_the_right_one_then_allow() {
    let mut scene = Scene::new().await;
    scene.authorize(&[("scope", "notes:write openid")]).await;
    let page = scene.tab.text("main").await;
    let host = scene.server.issuer().replace("http://", "");
    for shown in ["Sign in", &host, "The app"] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    scene.log_in("alice", "wrong").await;
    let wrong = scene.tab.text("[role=alert]").await;
    assert_eq!(wrong, "The user name or password is wrong.");
    // The name stays, and the cursor is where one goes on.
    scene.tab.see("#password:focus").await;
    scene.tab.fill("#password", PASSWORD).await;
    scene.tab.click("button").await;
    scene.tab.see(CONSENT).await;
    let page = scene.tab.text("main").await;
    for shown in [
        "The app wants access to notes",
        "http://localhost:9001/mcp",
        "Change notes notes:write",
        // What it implies.
        "Read notes notes:read",
        "Know who you are openid",
        "alice",
        scene.client.strip_prefix("http://").unwrap(),
        "a program on this computer",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert!(!page.contains("registered itself"), "{page}");
    scene.console_is_empty().await;
    scene.tab.click(ALLOW).await;
    let answer = scene.answer().await;
    assert_eq!(answer("state").as_deref(), Some("st&te"));
    assert_eq!(answer("iss").as_deref(), Some(scene.server.issuer()));
    let tokens = scene.server.redeem(&answer("code").unwrap()).await.ok();
    assert_eq!(tokens["scope"], "notes:write openid");
}

#[tokio::test]
async fn cancel_is_access_denied() {
    let mut scene = Scene::new().await;
    scene.consent_page(&[]).await;
    scene.tab.click(CANCEL).await;
    let answer = scene.answer().await;
    assert_eq!(answer("error").as_deref(), Some("access_denied"));
    assert_eq!(answer("state").as_deref(), Some("st&te"));
    assert_eq!(answer("iss").as_deref(), Some(scene.server.issuer()));
    assert_eq!(answer("code"), None);
    // On loopback a session is for one authorization.
    scene.consent_page(&[]).await;
    scene.tab.click(ALLOW).await;
    let answer = scene.answer().await;
    assert!(answer("code").is_some());
}

#[tokio::test]
async fn somebody_else_can_log_in() {
    let scene = Scene::new().await;
    scene.consent_page(&[]).await;
    scene.tab.click("a").await;
    scene.tab.see(LOGIN).await;
    scene.log_in("bob", PASSWORD).await;
    scene.tab.see(CONSENT).await;
    assert_eq!(scene.tab.text("dd").await, "bob Not you?");
}

#[tokio::test]
async fn the_keyboard_is_enough() {
    let mut scene = Scene::new().await;
    scene.authorize(&[]).await;
    assert_eq!(scene.tab.label("#username").await, "User name");
    assert_eq!(scene.tab.label("#password").await, "Password");
    scene.tab.see("#username:focus").await;
    scene
        .tab
        .press(&format!("alice{TAB}{PASSWORD}{ENTER}"))
        .await;
    scene.tab.see(CONSENT).await;
    // A key that was still held from the login decides nothing.
    let focus = "return document.activeElement.innerText";
    let mut stops = vec![scene.tab.run("return document.activeElement.tagName").await];
    for _ in 0..3 {
        scene.tab.press(TAB).await;
        stops.push(scene.tab.run(focus).await);
    }
    assert_eq!(json!(stops), json!(["BODY", "Not you?", "Cancel", "Allow"]));
    scene.tab.press(ENTER).await;
    let answer = scene.answer().await;
    assert!(answer("code").is_some());
}

#[tokio::test]
async fn an_unknown_client_gets_a_page_and_goes_nowhere() {
    let mut scene = Scene::new().await;
    scene.authorize(&[("client_id", "nobody")]).await;
    let page = scene.tab.text("main").await;
    assert!(page.contains("not registered here"), "{page}");
    assert_eq!(
        scene.tab.url().await,
        scene.authorize_url(&[("client_id", "nobody")])
    );
    scene.console_is_empty().await;
    assert!(scene.answers.try_recv().is_err());
}

#[tokio::test]
async fn no_page_can_be_framed() {
    let scene = Scene::new().await;
    // What can be framed is seen in the frame.
    scene
        .tab
        .open(&format!("{0}/frame?{0}/callback", scene.client))
        .await;
    scene.tab.enter_frame().await;
    scene.tab.see("#connected").await;
    let unknown = [("client_id", "nobody")];
    for changes in [&[][..], &unknown] {
        scene.tab.leave_frame().await;
        let url = scene.authorize_url(changes);
        scene
            .tab
            .open(&format!("{}/frame?{url}", scene.client))
            .await;
        scene.tab.enter_frame().await;
        assert_eq!(
            scene.tab.run("return location.protocol").await,
            "chrome-error:"
        );
        let console = scene.tab.console().await;
        assert!(
            console
                .iter()
                .any(|text| text.contains("frame-ancestors 'none'")),
            "{console:?}"
        );
    }
}

#[tokio::test]
async fn the_policy_lets_the_own_style_in_and_no_script() {
    let scene = Scene::new().await;
    scene.authorize(&[]).await;
    let style = "return getComputedStyle(document.querySelector('.primary')).borderStyle";
    assert_eq!(scene.tab.run(style).await, "solid");
    scene.console_is_empty().await;
    let inject = "const script = document.createElement('script');
        script.textContent = 'window.ran = true';
        document.body.append(script);
        document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\" id=added onclick=\"window.ran = true\">');
        document.querySelector('#added').click();
        return [window.ran ?? false, document.querySelector('#added').style.color]";
    assert_eq!(scene.tab.run(inject).await, json!([false, ""]));
    assert_eq!(scene.tab.console().await.len(), 3);
}

#[tokio::test]
async fn bidi_or_look_alike_names_are_escaped() {
    let scene = Scene::new().await;
    let name = "<img src=x onerror=alert(1)>\u{202e}lave \u{3164}&amp;";
    let shown = "<img src=x onerror=alert(1)>\u{fffd}lave \u{fffd}&amp;";
    scene
        .server
        .put_client("strange", json!({ "clientName": name }))
        .await;
    scene.authorize(&[("client_id", "strange")]).await;
    assert_eq!(scene.tab.text(".name").await, shown);
    scene.log_in("<b>\"'&\u{202e}", "wrong").await;
    scene.tab.see("[role=alert]").await;
    let value = scene
        .tab
        .run("return document.querySelector('#username').value")
        .await;
    assert_eq!(value, "<b>\"'&\u{202e}");
    scene
        .tab
        .run("document.querySelector('#username').value = ''")
        .await;
    scene.log_in("alice", PASSWORD).await;
    scene.tab.see(CONSENT).await;
    assert_eq!(
        scene.tab.text("h1").await,
        format!("{shown} wants access to notes")
    );
    let elements = scene
        .tab
        .run("return document.querySelectorAll('img, b').length")
        .await;
    assert_eq!(elements, 0);
    scene.console_is_empty().await;
}

#[tokio::test]
async fn a_phone_shows_everything_without_scrolling_sideways() {
    let scene = Scene::new().await;
    let name = json!({ "clientName": "W".repeat(256) });
    scene.server.put_client("long", name).await;
    let size = json!({ "width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": true });
    scene
        .tab
        .command("Emulation.setDeviceMetricsOverride", size)
        .await;
    let overflow =
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
    let long = [
        ("client_id", "long"),
        ("scope", "notes:read offline_access openid"),
    ];
    scene.authorize(&long).await;
    assert_eq!(scene.tab.run(overflow).await, 0);
    scene.log_in("alice", PASSWORD).await;
    scene.tab.see(CONSENT).await;
    assert_eq!(scene.tab.run(overflow).await, 0);
    scene.authorize(&[("client_id", "nobody")]).await;
    assert_eq!(scene.tab.run(overflow).await, 0);
}
