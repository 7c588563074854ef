//! An authorization request that waits for the user: checked, and answered.

use axum::response::Response;
use http::{StatusCode, header};
use mcpauth_service::clock::UnixTime;
use mcpauth_wire::client::is_id;

use super::Pages;
use super::templates::{self, ReturnPage};
use crate::audit::Event;
use crate::http::audit;
use crate::http::error::{RETRY_UNAVAILABLE, Refused, retry_after};
use crate::http::redirect::see_other;
use crate::http::trace;
use crate::http::visit::Visit;
use crate::login::User;
use crate::oauth::authorization::{self, AuthorizationRequest, LocalFault, ResponseTarget};
use crate::oauth::client::{Client, ClientOrigin};
use crate::oauth::code::NewCode;
use crate::oauth::error::OAuthError;
use crate::oauth::grant::{GrantId, NewGrant};
use crate::oauth::params::Params;
use crate::oauth::redirect_uri;
use crate::oauth::token::{Token, TokenKind};
use crate::random;
use crate::store::StoreError;

/// Whether the user was asked for consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Asked {
    /// They were, and gave it.
    Yes,
    /// It was not necessary.
    No,
}

/// An authorization request with a valid client and redirect URI.
pub(in super::super) struct Pending {
    pub(in super::super) params: Params,
    pub(in super::super) client: Client,
    pub(in super::super) target: ResponseTarget,
    pub(in super::super) request: Result<AuthorizationRequest, OAuthError>,
}

impl Pending {
    /// Reads and checks a request's query. An error that only the user may be told comes back as a page.
    pub(in super::super) async fn load(pages: &Pages, query: &str) -> Result<Self, Response> {
        let params = authorization::parse(query).map_err(|fault| local(&fault))?;
        let client_id = params
            .get("client_id")
            .ok_or_else(|| local(&LocalFault::NoClient))?;
        if !is_id(client_id) {
            return Err(local(&LocalFault::UnknownClient));
        }
        trace::client(client_id);
        let store = &pages.core.store;
        let client = store.client(client_id).await.map_err(|e| away(&e))?;
        let client = client.ok_or_else(|| local(&LocalFault::UnknownClient))?;
        let target = authorization::target(&params, &client).map_err(|fault| local(&fault))?;
        let resources = store.resources().await.map_err(|error| away(&error))?;
        let request = authorization::check(&params, &client, &resources);
        if let Ok(request) = &request {
            trace::resource(&request.resource.resource);
        }
        Ok(Self {
            request,
            params,
            client,
            target,
        })
    }

    /// Like [`Pending::refuse`], but before the user has decided anything. If no administrator registered the client,
    /// the user follows a link instead: otherwise, anyone could register a client and use this as an open redirector
    /// (OAuth 2.1, section 7.12.2). Programs on the user's machine, and schemes that an administrator has
    /// listed, are safe.
    pub(in super::super) fn refuse_unasked(&self, pages: &Pages, error: &OAuthError) -> Response {
        let redirect_uri = &self.target.redirect_uri;
        if self.client.origin != ClientOrigin::Dynamic || !redirect_uri.starts_with("https:") {
            return self.refuse(pages, error);
        }
        let page = ReturnPage {
            client_name: self.client_name(),
            message: error.description(),
            destination: &redirect_uri::destination(redirect_uri),
            url: &self.target.error_url(&pages.core.issuer, error),
        };
        refused(templates::render(StatusCode::OK, &page), error)
    }

    /// Tells the client of an error by redirect.
    pub(in super::super) fn refuse(&self, pages: &Pages, error: &OAuthError) -> Response {
        refused(
            see_other(&self.target.error_url(&pages.core.issuer, error)),
            error,
        )
    }

    /// Whether a user who is always signed in need not be asked: only programs on their own computer get the code without a
    /// click, and only when no web page has sent the browser. At a secret place they are being asked already.
    pub(in super::super) fn needs_no_click(&self, pages: &Pages, visit: &Visit) -> bool {
        let local = redirect_uri::is_local(&self.target.redirect_uri, &pages.redirect_schemes);
        local && !visit.is_cross_site() && !visit.place.is_secret()
    }

    /// The client's name; its id when it has none.
    pub(in super::super) fn client_name(&self) -> &str {
        match self.client.metadata.client_name.trim() {
            "" => &self.client.client_id,
            name => name,
        }
    }

    /// The request as it is repeated after a login: without what would ask for another one.
    pub(in super::super) fn after_login(&self) -> String {
        let params = self.params.clone().without("prompt").without("max_age");
        params.to_query()
    }

    /// Stores the grant and answers with the code. `at` is when the user logged in.
    pub(in super::super) async fn approve(
        &self,
        pages: &Pages,
        request: &AuthorizationRequest,
        user: &User,
        at: UnixTime,
        asked: Asked,
    ) -> Result<Response, OAuthError> {
        trace::subject(&user.subject);
        let (core, now) = (&pages.core, pages.core.clock.now());
        let code = Token::generate(TokenKind::Code, random::bytes()?);
        let grant = NewGrant {
            id: GrantId::from_bytes(random::bytes()?),
            subject: Some(user.subject.clone()),
            login: Some(user.mark.clone()),
            authenticated_at: Some(at),
            client_id: self.client.client_id.clone(),
            resource: request.resource.resource.clone(),
            scopes: request.scopes.clone(),
        };
        let stored = NewCode {
            hash: code.hash(&core.pepper),
            redirect_uri: self.target.redirect_uri.clone(),
            code_challenge: request.code_challenge.clone(),
            nonce: request.nonce.clone(),
            expires_at: now.plus(pages.code_lifetime),
        };
        audit::about(|about| about.granted(&grant.id.to_string(), grant.scopes.iter()));
        core.store.create_authorization(grant, &stored, now).await?;
        if asked == Asked::Yes {
            audit::record(Event::ConsentGiven);
        }
        audit::record(Event::CodeIssued);
        let url = self
            .target
            .url(&pages.core.issuer, &[("code", code.reveal())]);
        Ok(see_other(&url))
    }
}

/// With the reason, for the log.
fn refused(mut response: Response, error: &OAuthError) -> Response {
    response.extensions_mut().insert(Refused::from(error));
    response
}

pub(in super::super) fn local(fault: &LocalFault) -> Response {
    let title = "This connection request cannot be used";
    let reason = fault.to_string();
    let mut page = templates::error(StatusCode::BAD_REQUEST, title, &reason);
    page.extensions_mut()
        .insert(Refused::new("invalid_request", reason));
    page
}

fn away(error: &StoreError) -> Response {
    tracing::error!(%error, "storage is unavailable");
    let message = "The authorization server cannot reach its storage. Try again in a moment.";
    let mut page = templates::error(StatusCode::SERVICE_UNAVAILABLE, "Not available", message);
    page.headers_mut()
        .insert(header::RETRY_AFTER, retry_after(RETRY_UNAVAILABLE));
    refused(page, &OAuthError::TemporarilyUnavailable(message.into()))
}
