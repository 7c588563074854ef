//! A client manages what it has registered (RFC 7592).

use http::{Method, header};
use mcp_authserver::oauth::token::{Token, TokenKind};
use serde_json::{Value, json};

use crate::server::{Answer, LOOPBACK, TestServer, VERIFIER, text};

const OTHER: &str = "http://127.0.0.1:7777/other";

/// A client as it registered, with what the server answered.
struct Registered<'a> {
    server: &'a TestServer,
    answer: Value,
}

impl<'a> Registered<'a> {
    async fn new(server: &'a TestServer, method: &str) -> Self {
        let body = json!({
            "redirect_uris": [LOOPBACK], "token_endpoint_auth_method": method, "client_name": "Example",
            "grant_types": ["authorization_code", "refresh_token"],
        });
        let request = server.public(Method::POST, "/register");
        let answer = server.send(request.body(body.to_string().into()).unwrap());
        let answer = answer.await;
        assert_eq!(answer.status, 201, "{answer:?}");
        Self {
            server,
            answer: answer.json(),
        }
    }

    fn get(&self, name: &str) -> &str {
        self.answer[name].as_str().unwrap()
    }

    fn id(&self) -> &str {
        self.get("client_id")
    }

    async fn ask(&self, method: Method, body: &Value) -> Answer {
        let token = self.get("registration_access_token");
        self.ask_with(method, self.get("registration_client_uri"), token, body)
            .await
    }

    async fn ask_with(&self, method: Method, uri: &str, token: &str, body: &Value) -> Answer {
        let request = self.server.public(method, uri);
        let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        let body = body.to_string().into();
        self.server.send(request.body(body).unwrap()).await
    }

    /// An update that changes the redirect URI, and these members.
    fn update(&self, changes: &Value) -> Value {
        let mut body = json!({
            "client_id": self.id(), "redirect_uris": [OTHER], "token_endpoint_auth_method": "none",
        });
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    }

    async fn put(&self, changes: &Value) -> Answer {
        self.ask(Method::PUT, &self.update(changes)).await
    }

    async fn tokens(&self) -> Value {
        let code = self.server.code(&[("client_id", self.id())]).await;
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", self.id()),
            ("code", &code),
            ("code_verifier", VERIFIER),
        ];
        self.server.token(&form).await.ok()
    }
}

#[tokio::test]
async fn a_client_reads_what_it_has_registered() {
    let server = TestServer::start().await;
    let client = Registered::new(&server, "client_secret_post").await;
    let token = client.get("registration_access_token");
    assert_eq!(
        Token::parse(token).map(|token| token.kind()),
        Some(TokenKind::Registration)
    );
    let uri = client.get("registration_client_uri");
    assert_eq!(uri, format!("{}/register/{}", server.issuer(), client.id()));
    let answer = client.ask(Method::GET, &json!(null)).await;
    assert_eq!(answer.header(header::CACHE_CONTROL), "no-store");
    let mut expected = client.answer.clone();
    // Only a hash of the secret is stored.
    for name in [
        "client_secret",
        "client_secret_expires_at",
        "client_id_issued_at",
    ] {
        expected.as_object_mut().unwrap().remove(name);
    }
    assert_eq!(answer.ok(), expected);
}

#[tokio::test]
async fn an_update_replaces_everything_and_leaves_the_tokens() {
    let server = TestServer::start().await;
    let client = Registered::new(&server, "none").await;
    let tokens = client.tokens().await;
    let answer = client.put(&json!({ "client_name": "Renamed" })).await.ok();
    assert_eq!(answer["redirect_uris"], json!([OTHER]));
    assert_eq!(answer["client_name"], "Renamed");
    // Left out: the default of a registration.
    assert_eq!(answer["grant_types"], json!(["authorization_code"]));
    assert_eq!(answer, client.ask(Method::GET, &json!(null)).await.ok());
    assert!(server.is_active(&text(&tokens["access_token"])).await);
    let id = client.id();
    let old = server.authorize(&[("client_id", id)]).await;
    assert_eq!(old.status, 400, "{old:?}");
    let new = server
        .authorize(&[("client_id", id), ("redirect_uri", OTHER)])
        .await;
    assert!(new.location_param("code").is_some(), "{new:?}");
}

#[tokio::test]
async fn an_update_is_checked_as_a_registration_is() {
    let server = TestServer::start().await;
    let client = Registered::new(&server, "none").await;
    let before = client.ask(Method::GET, &json!(null)).await.ok();
    for (changes, error) in [
        (
            json!({ "redirect_uris": ["http://evil.example/"] }),
            "invalid_redirect_uri",
        ),
        (
            json!({ "redirect_uris": [LOOPBACK, "other://x"] }),
            "invalid_redirect_uri",
        ),
        (json!({ "redirect_uris": [] }), "invalid_redirect_uri"),
        (
            json!({ "grant_types": ["client_credentials"] }),
            "invalid_client_metadata",
        ),
        (
            json!({ "token_endpoint_auth_method": "private_key_jwt" }),
            "invalid_client_metadata",
        ),
        (json!({ "client_id": "other" }), "invalid_client_metadata"),
        (json!({ "client_id": null }), "invalid_client_metadata"),
        (
            json!({ "client_secret": "guess" }),
            "invalid_client_metadata",
        ),
        (
            json!({ "registration_access_token": "x" }),
            "invalid_client_metadata",
        ),
        (
            json!({ "registration_client_uri": "x" }),
            "invalid_client_metadata",
        ),
        (
            json!({ "client_secret_expires_at": 0 }),
            "invalid_client_metadata",
        ),
        (
            json!({ "client_id_issued_at": 1 }),
            "invalid_client_metadata",
        ),
    ] {
        client.put(&changes).await.is_error(400, error);
    }
    let large = client
        .put(&json!({ "software_id": "x".repeat(8 * 1024) }))
        .await;
    assert_eq!(large.status, 413);
    assert_eq!(client.ask(Method::GET, &json!(null)).await.ok(), before);
}

#[tokio::test]
async fn a_secret_comes_and_goes_with_the_method() {
    let server = TestServer::start().await;
    let client = Registered::new(&server, "none").await;
    let post = "client_secret_post";
    let with = |secret: Option<&str>| json!({ "token_endpoint_auth_method": post, "client_secret": secret });
    let answer = client.put(&with(None)).await.ok();
    let secret = text(&answer["client_secret"]);
    let authenticates = async |secret: &str| {
        let form = [
            ("client_id", client.id()),
            ("client_secret", secret),
            ("token", "x"),
        ];
        server.post("/revoke", &form).await.status.as_u16()
    };
    assert_eq!(authenticates(&secret).await, 200);
    client
        .put(&with(Some("wrong")))
        .await
        .is_error(400, "invalid_client_metadata");
    // It stays, sent or not; only who sends it can be told.
    assert_eq!(
        client.put(&with(Some(&secret))).await.ok()["client_secret"],
        secret
    );
    assert_eq!(
        client.put(&with(None)).await.ok().get("client_secret"),
        None
    );
    assert_eq!(authenticates(&secret).await, 200);
    client.put(&json!({})).await.ok();
    assert_eq!(authenticates(&secret).await, 401);
    assert_ne!(client.put(&with(None)).await.ok()["client_secret"], secret);
}

#[tokio::test]
async fn deleting_a_registration_revokes_all_that_it_had() {
    let server = TestServer::start().await;
    let client = Registered::new(&server, "none").await;
    let other = Registered::new(&server, "none").await;
    let (tokens, others) = (client.tokens().await, other.tokens().await);
    let code = server.code(&[("client_id", client.id())]).await;
    let answer = client.ask(Method::DELETE, &json!(null)).await;
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (204, ""));
    assert!(!server.is_active(&text(&tokens["access_token"])).await);
    let refresh = text(&tokens["refresh_token"]);
    for (name, value) in [("refresh_token", &refresh), ("code", &code)] {
        let grant_type = if name == "code" {
            "authorization_code"
        } else {
            name
        };
        let form = [
            ("grant_type", grant_type),
            ("client_id", client.id()),
            (name, value),
            ("code_verifier", VERIFIER),
        ];
        server.token(&form).await.is_error(401, "invalid_client");
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let body = client.update(&json!({}));
        client
            .ask(method, &body)
            .await
            .is_error(401, "invalid_token");
    }
    assert!(server.is_active(&text(&others["access_token"])).await);
}

#[tokio::test]
async fn a_wrong_registration_access_token_says_nothing_about_the_client() {
    let server = TestServer::start().await;
    let client = Registered::new(&server, "none").await;
    let other = Registered::new(&server, "none").await;
    let tokens = client.tokens().await;
    let never_issued = Token::generate(TokenKind::Registration, [7; 32]);
    let own = client.get("registration_access_token");
    let uri_of = |id: &str| format!("{}/register/{id}", server.issuer());
    let own_uri = uri_of(client.id());
    let answers = [
        (own_uri.as_str(), other.get("registration_access_token")),
        (&own_uri, never_issued.reveal()),
        (&own_uri, "mra_guess"),
        (&own_uri, tokens["access_token"].as_str().unwrap()),
        (&uri_of("dyn-unknown"), own),
        (&uri_of("a%00b"), own),
        // Declared by an administrator.
        (&uri_of("app"), own),
        (&uri_of("app"), never_issued.reveal()),
    ];
    let mut bodies = std::collections::BTreeSet::new();
    for (uri, token) in answers {
        for method in [Method::GET, Method::PUT, Method::DELETE] {
            let body = client.update(&json!({}));
            let answer = client.ask_with(method, uri, token, &body).await;
            answer.is_error(401, "invalid_token");
            let challenge = answer.header(header::WWW_AUTHENTICATE);
            assert!(challenge.starts_with("Bearer "), "{challenge}");
            bodies.insert((answer.body.clone(), challenge.to_owned()));
        }
    }
    assert_eq!(bodies.len(), 1, "{bodies:?}");
    let answer = server.get(&own_uri).await;
    answer.is_error(401, "invalid_token");
    assert!(!answer.header(header::WWW_AUTHENTICATE).contains("error"));
    // Nothing has changed, and a management token is nothing elsewhere.
    assert_eq!(
        client.ask(Method::GET, &json!(null)).await.ok()["redirect_uris"],
        json!([LOOPBACK])
    );
    assert!(server.is_active(&text(&tokens["access_token"])).await);
    assert!(!server.is_active(own).await);
}

/// The page of a client that runs in a browser manages it from another origin.
#[tokio::test]
async fn browsers_may_manage_registrations() {
    let server = TestServer::start().await;
    let client = Registered::new(&server, "none").await;
    for method in ["PUT", "DELETE"] {
        let request = server
            .public(Method::OPTIONS, client.get("registration_client_uri"))
            .header(header::ORIGIN, "https://app.example")
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, method)
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "authorization");
        let answer = server.send(request.body(Default::default()).unwrap()).await;
        let allowed = answer.header(header::ACCESS_CONTROL_ALLOW_METHODS);
        assert!(allowed.contains(method), "{allowed}");
    }
}
