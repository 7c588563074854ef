//! The path of a request: the order of its checks.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts as RequestParts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use hyper::body::{Body as _, Incoming};
use mcpauth_wire::proxy_keys::ProxyKeys;
use serde_json::Value;
use tracing::Instrument as _;

use crate::auth::authorize::{AccessRules, Denial};
use crate::auth::bearer;
use crate::auth::identity::Identity;
use crate::auth::judge::Rejection;
use crate::compiled::{Compiled, Runtime};
use crate::config::{Config, ConfigError};
use crate::http::body;
use crate::http::cors::{self, Origin};
use crate::http::filter::Filter;
use crate::http::hard_limit;
use crate::http::host;
use crate::http::media_type::{is_encoded, is_event_stream};
use crate::http::observer::Observer;
use crate::http::refusal::{ALL_METHODS, Refusal, STATELESS_METHODS};
use crate::http::stream::{Body, Reader};
use crate::http::upstream::{LAST_EVENT_ID, SESSION_ID, hides_headers};
use crate::limits::capacity::{Allowance, Reservation};
use crate::mcp::absent::Absent;
use crate::mcp::discover;
use crate::mcp::era::{Era, Unsupported};
use crate::mcp::guard::{Guarded, Target};
use crate::mcp::header_match;
use crate::mcp::list_filter::View;
use crate::mcp::message::{Fault, Messages};
use crate::mcp::param_headers::ParamHeaders;
use crate::mcp::session::{Fingerprint, Sessions};
use crate::mcp::tasks::{self, Call, Tasks};
use crate::pacing::{Calls, Pacing, Sent};
use crate::trace::Trace;

/// A request that is forwarded later than this after the check of its token is checked again.
const FRESH: Duration = Duration::from_millis(50);

/// The proxy.
#[derive(Debug)]
pub struct Proxy {
    compiled: ArcSwap<Compiled>,
    /// Those of `compiled`, for streams that outlive it.
    rules: Arc<ArcSwap<AccessRules>>,
    runtime: Runtime,
    sessions: ArcSwap<Sessions>,
    tasks: Arc<Tasks>,
    param_headers: Arc<ParamHeaders>,
    pacing: Arc<Pacing>,
}

/// What is to be done with the response to a request.
#[derive(Debug, Default)]
struct Plan {
    /// It is a stream that does not end by itself.
    listens: bool,
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
    fn of(messages: &Messages<'_>, sent: Option<Sent>) -> Self {
        Self {
            listens: messages.listens(),
            begins: messages.may_begin_task(),
            lists: messages.asks_for_lists(),
            id: messages.first_id(),
            sent,
            extensions: Vec::new(),
        }
    }

    /// What the server does not know of authorization, where the client discovers it.
    fn declaring(mut self, compiled: &Compiled, messages: &Messages<'_>, body: &[u8]) -> Self {
        if messages.discovers() {
            self.extensions = discover::supported(body, &compiled.config.authorization_extensions);
            self.lists |= !self.extensions.is_empty();
        }
        self
    }
}

impl Proxy {
    /// With a checked configuration. The keys bind sessions.
    ///
    /// # Errors
    /// A value cannot be used, although it passed validation.
    pub fn new(config: Config, runtime: Runtime, keys: &ProxyKeys) -> Result<Self, ConfigError> {
        let pacing = Pacing::new(
            config.friction.as_ref(),
            runtime.clock.clone(),
            runtime.metrics.clone(),
            Arc::clone(&runtime.drain),
        );
        let compiled = Compiled::new(config, &runtime, None)?;
        Ok(Self {
            rules: Arc::new(ArcSwap::new(Arc::clone(&compiled.rules))),
            compiled: ArcSwap::from_pointee(compiled),
            runtime,
            sessions: ArcSwap::from_pointee(Sessions::new(keys)),
            tasks: Arc::default(),
            param_headers: Arc::default(),
            pacing: Arc::new(pacing),
        })
    }

    /// Applies a new version of the configuration. Requests in flight finish under the old one.
    ///
    /// # Errors
    /// A value cannot be used, although it passed validation; the old version stays in force.
    pub fn reconfigure(&self, config: Config) -> Result<(), ConfigError> {
        let compiled = Compiled::new(config, &self.runtime, Some(&self.compiled.load()))?;
        self.pacing.reconfigure(compiled.config.friction.as_ref());
        self.rules.store(Arc::clone(&compiled.rules));
        self.compiled.store(Arc::new(compiled));
        Ok(())
    }

    /// Uses these keys from now on.
    pub fn replace_keys(&self, keys: &ProxyKeys) {
        self.sessions.store(Arc::new(Sessions::new(keys)));
    }

    /// The configuration in force.
    pub fn compiled(&self) -> Arc<Compiled> {
        self.compiled.load_full()
    }

    /// What outlives a version of the configuration.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Serves a request.
    pub async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        // hyper takes Transfer-Encoding and silently drops a Content-Length beside it. A proxy in front of
        // us may take what follows for the end of this request, so the connection ends here (RFC 9112
        // section 6.3).
        let ambiguous = request.headers().contains_key(TRANSFER_ENCODING);
        // A connection that a client keeps open would bring its next request to this pod again.
        let leaving = request.version() < Version::HTTP_2 && self.runtime.drain.has_begun();
        let is_last = ambiguous || leaving;
        let mut response = self.respond(request).await;
        if is_last {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<Body> {
        let compiled = self.compiled.load_full();
        if let Some(response) = compiled.metadata.answer(&compiled.resource, &request) {
            self.runtime.metrics.request("public");
            return response;
        }
        let (own, allowed) = (compiled.resource.origin(), &compiled.config.allowed_origins);
        let origin = Origin::of(request.headers(), own, allowed);
        let is_json_rpc = Era::is_stateless(request.headers());
        let mut trace = Trace::new(&request, &compiled.resource, &self.runtime);
        let (span, collected) = (trace.span(), trace.collected());
        let served = self
            .serve(&compiled, &origin, request, &mut trace)
            .instrument(collected)
            .instrument(span)
            .await;
        let (outcome, mut response) = served.unwrap_or_else(|refusal| {
            trace.refused(&refusal);
            let outcome = refusal.outcome();
            (
                outcome,
                refusal.into_response(&compiled.challenge, is_json_rpc),
            )
        });
        trace.ended(outcome, response.status());
        self.runtime.metrics.request(outcome);
        origin.expose(&mut response);
        response
    }

    /// The checks, in order. Returns the outcome of the request, for the metrics.
    async fn serve(
        &self,
        compiled: &Compiled,
        origin: &Origin,
        request: Request<Incoming>,
        trace: &mut Trace,
    ) -> Result<(&'static str, Response<Body>), Refusal> {
        if *origin == Origin::Refused {
            return Err(Refusal::OriginNotAllowed);
        }
        host::check(request.uri(), request.headers(), &compiled.resource)?;
        if request.method() == Method::OPTIONS {
            return Ok(("preflight", cors::preflight(request.headers())));
        }
        let (mut parts, body) = request.into_parts();
        let mut identity = authenticate(compiled, &parts).await?;
        trace.caller(&identity);
        let authenticated = self.runtime.clock.monotonic();
        let declared = Era::declared(&parts.headers);
        let is_stateless = declared == Ok(Some(Era::Stateless));
        route(compiled, &parts, &declared)?;
        if hides_headers(&parts.headers) {
            let text = "Connection names a header that is not about the connection";
            return Err(Refusal::InvalidRequest(text));
        }
        self.unbind_session(&mut parts.headers, is_stateless, &identity)?;
        trace.session(|| self.fingerprint(&parts.headers));
        let limit = compiled.config.limits.body_bytes;
        let (body, mut reserved) =
            body::read(&compiled.capacity, limit, &parts, body, &identity.subject).await?;
        let is_get = parts.method == Method::GET;
        let mut plan = Plan {
            listens: is_get,
            lists: is_get,
            ..Plan::default()
        };
        if parts.method == Method::POST {
            let messages =
                self.judge(compiled, &parts.headers, &declared, &body, &identity, trace)?;
            let judged = self.runtime.clock.monotonic();
            let calls = Calls {
                caller: &identity,
                messages: &messages,
                body: &body,
                has_retries: is_stateless,
            };
            let held = self.pacing.hold_back(calls, &compiled.labels).await;
            trace.delayed(self.runtime.clock.monotonic().saturating_sub(judged));
            match held {
                Ok(sent) => plan = Plan::of(&messages, sent).declaring(compiled, &messages, &body),
                Err(refused) => {
                    let response = hard_limit::answer(&messages, &refused, calls.has_retries);
                    return Ok(("hard_limit", response));
                }
            }
        } else if !body.is_empty() {
            let text = "GET and DELETE must not have a body";
            return Err(Refusal::Body(Fault::Invalid(text.into())));
        }
        if self.runtime.clock.monotonic() > authenticated + FRESH {
            // While the body was received or the call was delayed, the token may have been revoked, or replaced by one
            // with fewer scopes, and the rules may have changed.
            identity = authenticate(&self.compiled(), &parts).await?;
            let compiled = self.compiled();
            if parts.method == Method::POST {
                self.judge(
                    &compiled,
                    &parts.headers,
                    &declared,
                    &body,
                    &identity,
                    trace,
                )?;
            }
        }
        if !is_stateless || plan.begins.is_some() || plan.lists || plan.sent.is_some() {
            // The response must be readable here.
            parts.headers.remove(ACCEPT_ENCODING);
        }
        let token = match plan.listens {
            true => bearer::token(&parts.uri, &parts.headers)
                .ok()
                .map(str::to_owned),
            false => None,
        };
        let response = self
            .forward(compiled, parts, body, &identity, !is_stateless)
            .instrument(trace.call())
            .await?;
        // The server has the body; only the connection to it still needs capacity.
        reserved.keep(0);
        let response = self.read_along(response, plan, is_stateless, &identity, reserved)?;
        let response = response.map(|body| match (body, token) {
            (Body::Right(stream), Some(token)) => {
                Body::Right(stream.until(self.listening(compiled, token)))
            }
            (body, _) => body,
        });
        Ok(("forwarded", response))
    }

    /// Reads the response as it passes, and removes what the caller may not see.
    fn read_along(
        &self,
        mut response: Response<Body>,
        mut plan: Plan,
        is_stateless: bool,
        caller: &Arc<Identity>,
        reserved: Reservation,
    ) -> Result<Response<Body>, Refusal> {
        // Requests of 2026-07-28 have no session, so a server has nothing by which it could send a list with the
        // response to another request: only what asks for lists is looked at.
        let filter = match plan.lists || !is_stateless && !response.body().is_end_stream() {
            true => {
                let allowance = reserved.allowance();
                let mut view = self.view(is_stateless, caller);
                view.extensions = std::mem::take(&mut plan.extensions);
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
                Body::Right(stream)
            }
            ours @ Body::Left(_) => ours,
        }))
    }

    /// What this caller sees.
    fn view(&self, is_stateless: bool, caller: &Arc<Identity>) -> View {
        View {
            rules: Arc::clone(&self.rules),
            caller: Arc::clone(caller),
            tasks: Arc::clone(&self.tasks),
            param_headers: Arc::clone(&self.param_headers),
            says_cache_scope: is_stateless,
            extensions: Vec::new(),
        }
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

    /// What the audit calls the session of a request.
    fn fingerprint(&self, headers: &HeaderMap) -> Option<Fingerprint> {
        let id = headers.get(SESSION_ID)?;
        self.sessions.load().fingerprint(id.as_bytes())
    }

    /// Restores the server's own session id, if the session is the caller's.
    fn unbind_session(
        &self,
        headers: &mut HeaderMap,
        is_stateless: bool,
        caller: &Identity,
    ) -> Result<(), Refusal> {
        if is_stateless {
            headers.remove(SESSION_ID);
            headers.remove(LAST_EVENT_ID);
            return Ok(());
        }
        let mut values = headers.get_all(SESSION_ID).iter();
        let Some(sent) = values.next() else {
            return Ok(());
        };
        if values.next().is_some() {
            return Err(Refusal::InvalidRequest(
                "there is more than one Mcp-Session-Id header; send one",
            ));
        }
        let sent = sent.to_str().unwrap_or_default();
        let sessions = self.sessions.load();
        let id = sessions.unbind(sent, caller);
        match id.and_then(|id| HeaderValue::from_str(id).ok()) {
            Some(id) => {
                headers.insert(SESSION_ID, id);
                Ok(())
            }
            None => Err(Refusal::UnknownSession),
        }
    }

    /// Applies the access rules to every message of a body. One that is denied stops all of them.
    fn judge<'a>(
        &self,
        compiled: &Compiled,
        headers: &HeaderMap,
        declared: &Result<Option<Era>, Unsupported>,
        body: &'a [u8],
        identity: &Identity,
        trace: &mut Trace,
    ) -> Result<Messages<'a>, Refusal> {
        let messages = Messages::parse(body).map_err(Refusal::Body)?;
        trace.message(&messages);
        let era = Era::judging(declared, headers, &messages)
            .map_err(|unsupported| Refusal::UnsupportedVersion(unsupported, messages.first_id()))?;
        era.check(&messages).map_err(Refusal::Body)?;
        if let Some(removed) = era.removed(&messages) {
            return Err(Refusal::Absent(Absent::removed(era, &messages, removed)));
        }
        messages.check().map_err(Refusal::Body)?;
        header_match::check(era, headers, &messages)
            .and_then(|()| match &messages {
                Messages::Single(message) if era == Era::Stateless => {
                    self.param_headers.check(headers, message, body)
                }
                _ => Ok(()),
            })
            .map_err(|reason| Refusal::HeaderMismatch(reason, messages.first_id()))?;
        let absent = |denied: Guarded<'_>| Refusal::Absent(Absent::new(era, &messages, denied));
        let mut begun = Vec::new();
        for guarded in messages.guarded() {
            if let Target::Task(id) = guarded.target {
                begun.push(
                    self.tasks
                        .begun_by(identity, id)
                        .ok_or_else(|| absent(guarded))?,
                );
            }
        }
        let operations = messages.guarded().scan(begun.iter(), |begun, guarded| {
            Some(match guarded.target {
                Target::Operation(operation) => operation,
                Target::Task(_) => begun.next()?.operation(),
            })
        });
        trace.decided(&compiled.rules, operations.clone(), &identity.scopes);
        match compiled.rules.authorize(operations, &identity.scopes) {
            Ok(()) => {}
            Err(Denial::Scopes(missing)) => return Err(Refusal::InsufficientScope(missing)),
            Err(Denial::Absent(index)) => {
                let denied = messages.guarded().nth(index).map(absent);
                return Err(denied.unwrap_or(Refusal::NotFound));
            }
        }
        Ok(messages)
    }

    async fn forward(
        &self,
        compiled: &Compiled,
        parts: RequestParts,
        body: Bytes,
        identity: &Identity,
        has_sessions: bool,
    ) -> Result<Response<Body>, Refusal> {
        let named = compiled
            .config
            .identity
            .as_ref()
            .map(|mcpauth_wire::proxy_config::Identity::Headers {}| identity);
        let request = compiled.upstream.request(parts, body, named);
        let request = request.map_err(|_| Refusal::InvalidRequest("the query is malformed"))?;
        let sent = self.runtime.clock.monotonic();
        let mut response = compiled
            .upstream
            .send(&self.runtime.client, request)
            .await?;
        let took = self.runtime.clock.monotonic().saturating_sub(sent);
        self.runtime.metrics.upstream(took);
        let opened = response.headers_mut().remove(SESSION_ID);
        if let Some(id) = opened.filter(|_| has_sessions) {
            let id = id.to_str().ok();
            let bound = id.and_then(|id| self.sessions.load().bind(id, identity));
            // An id that is not text could not be sent back, so the client gets none.
            if let Some(Ok(bound)) = bound.map(HeaderValue::try_from) {
                response.headers_mut().insert(SESSION_ID, bound);
            }
        }
        Ok(response)
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

async fn authenticate(compiled: &Compiled, parts: &RequestParts) -> Result<Arc<Identity>, Refusal> {
    let token = bearer::token(&parts.uri, &parts.headers).map_err(|fault| match fault {
        bearer::Fault::Missing => Refusal::NoToken,
        bearer::Fault::Malformed(reason) => Refusal::InvalidRequest(reason),
        bearer::Fault::Impossible => Refusal::InvalidToken("the token is too long"),
    })?;
    let verdict = compiled.verifier.verify(token).await;
    verdict.map_err(|rejection| match rejection {
        Rejection::Invalid(reason) => Refusal::InvalidToken(reason),
        Rejection::Unavailable => Refusal::Unavailable,
    })
}

fn route(
    compiled: &Compiled,
    parts: &RequestParts,
    declared: &Result<Option<Era>, Unsupported>,
) -> Result<(), Refusal> {
    if !compiled.resource.serves(parts.uri.path()) {
        return Err(Refusal::NotFound);
    }
    match (&parts.method, declared) {
        (&Method::POST, _) => Ok(()),
        (&Method::GET | &Method::DELETE, Ok(Some(Era::Stateless))) => {
            Err(Refusal::MethodNotAllowed(STATELESS_METHODS))
        }
        (&Method::GET | &Method::DELETE, Ok(_)) => Ok(()),
        (&Method::GET | &Method::DELETE, Err(unsupported)) => {
            Err(Refusal::UnsupportedVersion(unsupported.clone(), None))
        }
        _ => Err(Refusal::MethodNotAllowed(ALL_METHODS)),
    }
}
