//! `GET /authorize` (OAuth 2.1, section 4.1.1). It changes nothing: clients send it twice.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, StatusCode, header};

use super::{Shared, see_other};
use crate::app::App;
use crate::authorization::{self, AuthorizationRequest, LocalFault, Prompt, ResponseTarget};
use crate::client::{Client, ClientOrigin, is_client_id};
use crate::code::NewCode;
use crate::consent_ticket::{Purpose, Shown, Ticket};
use crate::error::OAuthError;
use crate::grant::NewGrant;
use crate::login::{Login, session};
use crate::pages::{self, ConsentPage, LoginPage, ReturnPage, ScopeLine};
use crate::params::Params;
use crate::random;
use crate::redirect_uri;
use crate::resource::Resource;
use crate::scope::Scopes;
use crate::store::StoreError;
use crate::token::TokenKind;

pub(super) async fn authorize(
    State(app): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let query = query.unwrap_or_default();
    let pending = match Pending::load(&app, &query).await {
        Ok(pending) => pending,
        Err(page) => return page,
    };
    let answer = match &pending.request {
        Ok(request) => decide(&app, &pending, request, &headers).await,
        Err(error) => Err(error.clone()),
    };
    answer.unwrap_or_else(|error| pending.refuse_unasked(&app, &error))
}

/// An authorization request whose client and redirect URI are good.
pub(super) struct Pending {
    pub(super) params: Params,
    pub(super) client: Client,
    pub(super) target: ResponseTarget,
    pub(super) request: Result<AuthorizationRequest, OAuthError>,
}

impl Pending {
    /// Reads and checks a request's query. What is only for the user comes back as a page.
    pub(super) async fn load(app: &App, query: &str) -> Result<Self, Response> {
        let params = authorization::parse(query).map_err(|fault| local(&fault))?;
        let client_id = params
            .get("client_id")
            .ok_or_else(|| local(&LocalFault::NoClient))?;
        if !is_client_id(client_id) {
            return Err(local(&LocalFault::UnknownClient));
        }
        let client = app.store.client(client_id).await.map_err(|e| away(&e))?;
        let client = client.ok_or_else(|| local(&LocalFault::UnknownClient))?;
        let target = authorization::target(&params, &client).map_err(|fault| local(&fault))?;
        let now = app.clock.now();
        let touched = app.store.touch_client(&client.client_id, now).await;
        touched.map_err(|error| away(&error))?;
        let resources = app.store.resources().await.map_err(|error| away(&error))?;
        Ok(Self {
            request: authorization::check(&params, &client, &resources),
            params,
            client,
            target,
        })
    }

    /// As [`Pending::refuse`], before the user has decided anything. Where nobody vouches for the client
    /// the user follows a link: else whoever registers makes us redirect to wherever they like (OAuth
    /// 2.1, section 7.12.2). Programs on the user's machine, and schemes that an administrator has
    /// listed, are no such place.
    pub(super) fn refuse_unasked(&self, app: &App, error: &OAuthError) -> Response {
        let redirect_uri = &self.target.redirect_uri;
        if self.client.origin != ClientOrigin::Dynamic || !redirect_uri.starts_with("https:") {
            return self.refuse(app, error);
        }
        let page = ReturnPage {
            client_name: self.client_name(),
            message: error.description(),
            destination: &redirect_uri::destination(redirect_uri),
            url: &self.target.error_url(&app.issuer, error),
        };
        pages::render(StatusCode::OK, &page)
    }

    /// Tells the client of an error by redirect.
    pub(super) fn refuse(&self, app: &App, error: &OAuthError) -> Response {
        see_other(&self.target.error_url(&app.issuer, error))
    }

    /// The client's name; its id when it has none.
    pub(super) fn client_name(&self) -> &str {
        match self.client.metadata.client_name.trim() {
            "" => &self.client.client_id,
            name => name,
        }
    }

    /// Stores the grant and answers with the code.
    pub(super) async fn approve(
        &self,
        app: &App,
        request: &AuthorizationRequest,
        subject: &str,
    ) -> Result<Response, OAuthError> {
        let now = app.clock.now();
        let lifetime = app.tokens.authorization_code();
        let (code, stored) = app.mint(TokenKind::Code, now.plus(lifetime))?;
        let grant = NewGrant {
            id: app.new_grant_id()?,
            subject: Some(subject.to_owned()),
            client_id: self.client.client_id.clone(),
            resource: request.resource.resource.clone(),
            scopes: request.scopes.clone(),
        };
        let stored = NewCode {
            hash: stored.hash,
            redirect_uri: self.target.redirect_uri.clone(),
            code_challenge: request.code_challenge.clone(),
            nonce: request.nonce.clone(),
            expires_at: stored.expires_at,
        };
        match app.store.create_authorization(grant, &stored, now).await {
            Ok(()) => {}
            Err(StoreError::Conflict(text)) => return Err(OAuthError::bad("access_denied", text)),
            Err(error) => return Err(error.into()),
        }
        let url = self.target.url(&app.issuer, &[("code", code.reveal())]);
        Ok(see_other(&url))
    }
}

async fn decide(
    app: &App,
    pending: &Pending,
    request: &AuthorizationRequest,
    headers: &HeaderMap,
) -> Result<Response, OAuthError> {
    if let Login::AutoApprove { subject } = &app.login {
        return pending.approve(app, request, subject).await;
    }
    let session = session::of(app, headers).await?;
    match (session, request.prompt) {
        (None, Prompt::None) => Err(OAuthError::bad("login_required", "nobody is logged in")),
        (Some(_), Prompt::None) => Err(OAuthError::bad(
            "consent_required",
            "the user has to consent",
        )),
        (None, _) | (Some(_), Prompt::Login) => {
            login_page(app, pending, headers, &LoginTry::default())
        }
        (Some(session), Prompt::Default) => consent_page(app, pending, request, &session, headers),
    }
}

/// What came of the last try to log in.
#[derive(Default)]
pub(super) struct LoginTry<'a> {
    pub(super) status: StatusCode,
    pub(super) username: &'a str,
    pub(super) error: Option<&'a str>,
}

/// The login form, which returns to this request.
pub(super) fn login_page(
    app: &App,
    pending: &Pending,
    headers: &HeaderMap,
    last: &LoginTry<'_>,
) -> Result<Response, OAuthError> {
    // After the login the request comes again, and would ask for another.
    let query = pending.params.clone().without("prompt").to_query();
    with_form_cookie(app, headers, |cookie| {
        let ticket = Ticket::new(query, None, cookie, app.clock.now());
        let page = LoginPage {
            server: app.issuer.without_scheme(),
            client_name: pending.client_name(),
            action: &app.issuer.url("/login"),
            ticket: &ticket.to_field(&app.pepper, Purpose::Login),
            username: last.username,
            error: last.error,
        };
        pages::render(last.status, &page)
    })
}

fn consent_page(
    app: &App,
    pending: &Pending,
    request: &AuthorizationRequest,
    session: &session::Session,
    headers: &HeaderMap,
) -> Result<Response, OAuthError> {
    let scopes = request.effective_scopes();
    let lines = scope_lines(&scopes, &request.resource);
    let shown = Shown {
        resource: request.resource.resource.clone(),
        scopes,
        session_id: session.id.clone(),
    };
    let query = pending.params.to_query();
    let without_prompt = pending.params.clone().without("prompt").to_query();
    let switch_user = format!("/authorize?{without_prompt}&prompt=login");
    let redirect_uri = &pending.target.redirect_uri;
    with_form_cookie(app, headers, |cookie| {
        let ticket = Ticket::new(query, Some(shown), cookie, app.clock.now());
        let page = ConsentPage {
            client_name: pending.client_name(),
            client_id: &pending.client.client_id,
            self_registered: pending.client.origin == ClientOrigin::Dynamic,
            destination: &redirect_uri::destination(redirect_uri),
            on_this_computer: !redirect_uri.starts_with("https://"),
            resource_name: &request.resource.name,
            resource: &request.resource.resource,
            scopes: &lines,
            subject: &session.subject,
            switch_user: &app.issuer.url(&switch_user),
            action: &app.issuer.url("/consent"),
            ticket: &ticket.to_field(&app.pepper, Purpose::Consent),
        };
        pages::render(StatusCode::OK, &page)
    })
}

fn scope_lines(scopes: &Scopes, resource: &Resource) -> Vec<ScopeLine> {
    let describe = |name: &str| match name {
        "openid" => "Know who you are",
        "offline_access" => "Stay connected while you are away",
        name => {
            let mut known = resource.scopes.iter();
            let known = known.find(|scope| scope.name == name);
            known.map_or("", |scope| scope.description.as_str())
        }
    };
    let line = |name: &str| match describe(name) {
        "" => ScopeLine {
            description: name.to_owned(),
            name: None,
        },
        text => ScopeLine {
            description: text.to_owned(),
            name: Some(name.to_owned()),
        },
    };
    // Where there are no scopes, every token is good for everything.
    let whole = resource.scopes.is_empty().then(|| ScopeLine {
        description: "Use everything that it offers".to_owned(),
        name: None,
    });
    whole.into_iter().chain(scopes.iter().map(line)).collect()
}

/// Renders a form bound to the browser's form cookie, which is set when there is none.
fn with_form_cookie(
    app: &App,
    headers: &HeaderMap,
    render: impl FnOnce(&str) -> Response,
) -> Result<Response, OAuthError> {
    if let Some(cookie) = app
        .cookies
        .form(headers)
        .filter(|cookie| !cookie.is_empty())
    {
        return Ok(render(cookie));
    }
    let cookie = URL_SAFE_NO_PAD.encode(random::bytes::<32>()?);
    let mut response = render(&cookie);
    if let Some(set) = app.cookies.set_form(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, set);
    }
    Ok(response)
}

fn local(fault: &LocalFault) -> Response {
    let title = "This connection request cannot be used";
    pages::error(StatusCode::BAD_REQUEST, title, &fault.to_string())
}

fn away(error: &StoreError) -> Response {
    tracing::error!(%error, "the store does not answer");
    let message = "The authorization server's storage does not answer. Try again in a moment.";
    pages::error(StatusCode::SERVICE_UNAVAILABLE, "Not available", message)
}
