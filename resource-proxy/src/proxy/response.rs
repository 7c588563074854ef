//! What is done with the server's response: it is read as it passes, and what the caller may not see is removed.

use std::sync::Arc;

use http::header::CONTENT_LENGTH;
use http::request::Parts as RequestParts;
use http::{HeaderMap, Method, Response};
use hyper::body::Body as _;
use serde_json::Value;

use super::{Proxy, Received};
use crate::auth::bearer;
use crate::auth::identity::Identity;
use crate::compiled::Compiled;
use crate::http::filter::Filter;
use crate::http::media_type::{is_encoded, is_event_stream};
use crate::http::observer::Observer;
use crate::http::refusal::Refusal;
use crate::http::stream::{Body, Reader};
use crate::limits::capacity::{Allowance, Reservation};
use crate::mcp::discover;
use crate::mcp::list_filter::View;
use crate::mcp::message::Messages;
use crate::mcp::tasks::{self, Call};
use crate::pacing::Sent;

/// What is to be done with the response to a request.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The request is of a revision of MCP without sessions.
    pub(super) is_stateless: bool,
    /// The token of a stream that does not end by itself.
    listens: Option<String>,
    /// The call that it may turn into a task.
    begins: Option<Call>,
    /// It may hold lists, or events, or is to declare extensions.
    lists: bool,
    /// The extensions that it is to declare.
    extensions: Vec<String>,
    /// What an error in place of a list answers.
    id: Option<Value>,
    /// Calls whose results friction counts.
    sent: Option<Sent>,
}

impl Plan {
    /// For a request that the access rules allow.
    pub(super) fn of(
        compiled: &Compiled,
        received: &Received,
        messages: &Messages<'_>,
        sent: Option<Sent>,
    ) -> Self {
        let extensions = declared(compiled, received, messages);
        Self {
            is_stateless: received.is_stateless(),
            listens: messages.listens().then(|| token(&received.parts)).flatten(),
            begins: messages.may_begin_task(),
            lists: messages.asks_for_lists() || !extensions.is_empty(),
            extensions,
            id: messages.first_id(),
            sent,
        }
    }

    /// For one that has no messages.
    pub(super) fn of_get_or_delete(parts: &RequestParts) -> Self {
        let is_get = parts.method == Method::GET;
        Self {
            listens: is_get.then(|| token(parts)).flatten(),
            lists: is_get,
            ..Self::default()
        }
    }

    /// Whether the response must be readable here.
    pub(super) fn reads(&self) -> bool {
        !self.is_stateless || self.begins.is_some() || self.lists || self.sent.is_some()
    }
}

/// What the server does not know of authorization, where the client discovers it.
fn declared(compiled: &Compiled, received: &Received, messages: &Messages<'_>) -> Vec<String> {
    match messages.discovers() {
        true => discover::supported(&received.body, &compiled.config.authorization_extensions),
        false => Vec::new(),
    }
}

fn token(parts: &RequestParts) -> Option<String> {
    let token = bearer::token(&parts.uri, &parts.headers).ok();
    token.map(str::to_owned)
}

impl Proxy {
    /// Reads the response as it passes, and removes what the caller may not see.
    pub(super) fn read_along(
        &self,
        compiled: &Compiled,
        mut response: Response<Body>,
        plan: Plan,
        caller: &Arc<Identity>,
        mut reserved: Reservation,
    ) -> Result<Response<Body>, Refusal> {
        // The server has the body; only the connection to it still needs capacity.
        reserved.keep(0);
        // Requests of 2026-07-28 have no session, so a server has nothing by which it could send a list with the
        // response to another request: only what asks for lists is looked at.
        let filter = match plan.lists || !plan.is_stateless && !response.body().is_end_stream() {
            true => {
                let allowance = reserved.allowance();
                let view = View {
                    rules: Arc::clone(&self.rules),
                    caller: Arc::clone(caller),
                    tasks: Arc::clone(&self.tasks),
                    param_headers: Arc::clone(&self.param_headers),
                    says_cache_scope: plan.is_stateless,
                    extensions: plan.extensions,
                };
                let filter = filter(view, &mut response, allowance, plan.id)?;
                Some(if plan.lists {
                    filter
                } else {
                    filter.watching()
                })
            }
            false => None,
        };
        let task = plan
            .begins
            .map(|call| self.task_reader(response.headers(), caller, call));
        let answer = plan
            .sent
            .and_then(|sent| sent.read(response.status(), response.headers()));
        Ok(response.map(|body| match body {
            Body::Right(stream) => {
                let mut stream = stream.holding(reserved);
                if let Some(filter) = filter {
                    stream = stream.filtered(filter);
                }
                for reader in [task, answer].into_iter().flatten() {
                    stream = stream.read_by(reader);
                }
                if let Some(token) = plan.listens {
                    stream = stream.until(self.listening(compiled, token));
                }
                Body::Right(stream)
            }
            ours @ Body::Left(_) => ours,
        }))
    }

    /// Remembers the tasks that the response to a call begins.
    fn task_reader(&self, headers: &HeaderMap, caller: &Arc<Identity>, call: Call) -> Reader {
        let (tasks, caller) = (Arc::clone(&self.tasks), Arc::clone(caller));
        let seen = Box::new(move |message: &[u8]| {
            if let Some(id) = tasks::begun(message) {
                tasks.remember(&caller, &id, call.clone());
            }
        });
        let mut observer = match is_event_stream(headers) {
            true => Observer::events(seen),
            false => Observer::json(seen),
        };
        Box::new(move |bytes| {
            observer.read(bytes);
            true
        })
    }

    /// How long a client may listen: as long as its token is valid, and until its requests go to another pod.
    fn listening(&self, compiled: &Compiled, token: String) -> impl Future<Output = ()> + use<> {
        let valid = Arc::clone(&compiled.verifier).while_valid(token);
        let drain = Arc::clone(&self.runtime.drain);
        async move {
            tokio::select! {
                () = valid => {}
                () = drain.elsewhere() => {}
            }
        }
    }
}

/// Shows the caller what the caller's token may use.
fn filter(
    view: View,
    response: &mut Response<Body>,
    allowance: Allowance,
    id: Option<Value>,
) -> Result<Filter, Refusal> {
    let is_success = response.status().is_success();
    let headers = response.headers_mut();
    if is_encoded(headers) {
        tracing::warn!("the server compressed a response, which cannot be filtered");
        return Err(Refusal::UpstreamEncoded);
    }
    headers.remove(CONTENT_LENGTH);
    let is_stream = is_event_stream(headers);
    Ok(Filter::new(view, allowance, is_stream, is_success, id))
}
