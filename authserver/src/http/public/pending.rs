//! An authorization request under way: checked, and answered.

use axum::response::Response;
use http::StatusCode;
use mcpauth_wire::client::is_id;

use super::pages::templates::{self, ReturnPage};
use crate::http::redirect::see_other;
use crate::http::state::App;
use crate::oauth::authorization::{self, AuthorizationRequest, LocalFault, ResponseTarget};
use crate::oauth::client::{Client, ClientOrigin};
use crate::oauth::code::NewCode;
use crate::oauth::error::OAuthError;
use crate::oauth::grant::NewGrant;
use crate::oauth::params::Params;
use crate::oauth::redirect_uri;
use crate::oauth::token::{Token, TokenKind};
use crate::random;
use crate::store::StoreError;

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
        if !is_id(client_id) {
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
        templates::render(StatusCode::OK, &page)
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
        let code = Token::generate(TokenKind::Code, random::bytes()?);
        let grant = NewGrant {
            id: app.new_grant_id()?,
            subject: Some(subject.to_owned()),
            client_id: self.client.client_id.clone(),
            resource: request.resource.resource.clone(),
            scopes: request.scopes.clone(),
        };
        let stored = NewCode {
            hash: app.pepper.hash_token(&code),
            redirect_uri: self.target.redirect_uri.clone(),
            code_challenge: request.code_challenge.clone(),
            nonce: request.nonce.clone(),
            expires_at: now.plus(lifetime),
        };
        app.store.create_authorization(grant, &stored, now).await?;
        let url = self.target.url(&app.issuer, &[("code", code.reveal())]);
        Ok(see_other(&url))
    }
}

fn local(fault: &LocalFault) -> Response {
    let title = "This connection request cannot be used";
    templates::error(StatusCode::BAD_REQUEST, title, &fault.to_string())
}

fn away(error: &StoreError) -> Response {
    tracing::error!(%error, "the store does not answer");
    let message = "The authorization server's storage does not answer. Try again in a moment.";
    templates::error(StatusCode::SERVICE_UNAVAILABLE, "Not available", message)
}
