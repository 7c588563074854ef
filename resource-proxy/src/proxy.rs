//! The path of a request: the order of its checks.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONNECTION, TRANSFER_ENCODING};
use http::request::Parts as RequestParts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use hyper::body::Incoming;
use mcpauth_wire::proxy_keys::ProxyKeys;
use tracing::Instrument as _;

use crate::auth::authorize::{AccessRules, Denial};
use crate::auth::bearer;
use crate::auth::identity::Identity;
use crate::auth::judge::Rejection;
use crate::compiled::{Compiled, Runtime};
use crate::config::{Config, ConfigError};
use crate::http::body;
use crate::http::cors::{self, Origin};
use crate::http::hard_limit;
use crate::http::host;
use crate::http::refusal::{ALL_METHODS, Refusal, STATELESS_METHODS};
use crate::http::stream::Body;
use crate::http::upstream::{LAST_EVENT_ID, SESSION_ID, hides_headers};
use crate::mcp::absent::Absent;
use crate::mcp::era::{Era, Unsupported};
use crate::mcp::guard::{Guarded, Target};
use crate::mcp::header_match;
use crate::mcp::message::{Fault, Messages};
use crate::mcp::param_headers::ParamHeaders;
use crate::mcp::session::{Fingerprint, Sessions};
use crate::mcp::tasks::Tasks;
use crate::pacing::{Calls, Pacing};
use crate::trace::Trace;

mod response;

use response::Plan;

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

/// A request whose body was read.
struct Received {
    parts: RequestParts,
    declared: Result<Option<Era>, Unsupported>,
    body: Bytes,
}

impl Received {
    fn is_stateless(&self) -> bool {
        self.declared == Ok(Some(Era::Stateless))
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
        route(compiled, &parts, &declared)?;
        self.unbind_session(&mut parts.headers, &declared, &identity)?;
        trace.session(|| self.fingerprint(&parts.headers));
        let limit = compiled.config.limits.body_bytes;
        let (body, reserved) =
            body::read(&compiled.capacity, limit, &parts, body, &identity.subject).await?;
        let received = Received {
            parts,
            declared,
            body,
        };
        let plan = match self.admit(compiled, &received, &identity, trace).await? {
            Ok(plan) => plan,
            Err(response) => return Ok(("hard_limit", response)),
        };
        if self.runtime.clock.monotonic() > authenticated + FRESH {
            identity = self.judge_again(&received, trace).await?;
        }
        let response = self
            .forward(compiled, received, &plan, &identity)
            .instrument(trace.call())
            .await?;
        let response = self.read_along(compiled, response, plan, &identity, reserved)?;
        Ok(("forwarded", response))
    }

    /// Judges what a request asks for, and delays it. The response is that of the hard limit.
    async fn admit(
        &self,
        compiled: &Compiled,
        received: &Received,
        identity: &Identity,
        trace: &mut Trace,
    ) -> Result<Result<Plan, Response<Body>>, Refusal> {
        if received.parts.method != Method::POST {
            return match received.body.is_empty() {
                true => Ok(Ok(Plan::of_get_or_delete(&received.parts))),
                false => Err(Refusal::Body(Fault::Invalid(
                    "GET and DELETE must not have a body".into(),
                ))),
            };
        }
        let messages = self.judge(compiled, received, identity, trace)?;
        let judged = self.runtime.clock.monotonic();
        let calls = Calls {
            caller: identity,
            messages: &messages,
            body: &received.body,
            has_retries: received.is_stateless(),
        };
        let held = self.pacing.hold_back(calls, &compiled.labels).await;
        trace.delayed(self.runtime.clock.monotonic().saturating_sub(judged));
        Ok(match held {
            Ok(sent) => Ok(Plan::of(compiled, received, &messages, sent)),
            Err(refused) => Err(hard_limit::answer(&messages, &refused, calls.has_retries)),
        })
    }

    /// While the body was received or the call was delayed, the token may have been revoked, or replaced by one with fewer
    /// scopes, and the rules may have changed: by those that are in force once the token is checked it is judged again.
    async fn judge_again(
        &self,
        received: &Received,
        trace: &mut Trace,
    ) -> Result<Arc<Identity>, Refusal> {
        let identity = authenticate(&self.compiled(), &received.parts).await?;
        if received.parts.method == Method::POST {
            self.judge(&self.compiled(), received, &identity, trace)?;
        }
        Ok(identity)
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
        declared: &Result<Option<Era>, Unsupported>,
        caller: &Identity,
    ) -> Result<(), Refusal> {
        if *declared == Ok(Some(Era::Stateless)) {
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
        received: &'a Received,
        identity: &Identity,
        trace: &mut Trace,
    ) -> Result<Messages<'a>, Refusal> {
        let messages = Messages::parse(&received.body).map_err(Refusal::Body)?;
        trace.message(&messages);
        let era = self.check_form(received, identity, &messages)?;
        let absent = |denied: Guarded<'_>| Refusal::Absent(Absent::new(era, &messages, denied));
        let mut begun = Vec::new();
        for guarded in messages.guarded() {
            if let Target::Task(id) = guarded.target {
                let call = self.tasks.begun_by(identity, id);
                begun.push(call.ok_or_else(|| absent(guarded))?);
            }
        }
        let operations = messages.guarded().scan(begun.iter(), |begun, guarded| {
            Some(match guarded.target {
                Target::Operation(operation) => operation,
                Target::Task(_) => begun.next()?.operation(),
            })
        });
        let allowed = compiled.rules.authorize(
            operations,
            &identity.scopes,
            |place, operation, decision| trace.decided(place, operation, decision),
        );
        match allowed {
            Ok(()) => {}
            Err(Denial::Scopes(missing)) => return Err(Refusal::InsufficientScope(missing)),
            Err(Denial::Absent(index)) => {
                let denied = messages.guarded().nth(index).map(absent);
                return Err(denied.unwrap_or(Refusal::NotFound));
            }
        }
        Ok(messages)
    }

    /// Whether messages have the form of their revision of MCP, which it returns, and say what the headers say.
    fn check_form(
        &self,
        received: &Received,
        identity: &Identity,
        messages: &Messages<'_>,
    ) -> Result<Era, Refusal> {
        let headers = &received.parts.headers;
        let era = Era::judging(&received.declared, headers, messages)
            .map_err(|unsupported| Refusal::UnsupportedVersion(unsupported, messages.first_id()))?;
        era.check(messages).map_err(Refusal::Body)?;
        if let Some(removed) = era.removed(messages) {
            return Err(Refusal::Absent(Absent::removed(era, messages, removed)));
        }
        messages.check().map_err(Refusal::Body)?;
        header_match::check(era, headers, messages)
            .and_then(|()| match messages {
                Messages::Single(message) if era == Era::Stateless => {
                    let (subject, body) = (&identity.subject, &received.body);
                    self.param_headers.check(subject, headers, message, body)
                }
                _ => Ok(()),
            })
            .map_err(|reason| Refusal::HeaderMismatch(reason, messages.first_id()))?;
        Ok(era)
    }

    async fn forward(
        &self,
        compiled: &Compiled,
        received: Received,
        plan: &Plan,
        identity: &Identity,
    ) -> Result<Response<Body>, Refusal> {
        let Received {
            mut parts, body, ..
        } = received;
        if plan.reads() {
            parts.headers.remove(ACCEPT_ENCODING);
        }
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
        if let Some(id) = opened.filter(|_| !plan.is_stateless) {
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
    if hides_headers(&parts.headers) {
        let text = "Connection names a header that is not about the connection";
        return Err(Refusal::InvalidRequest(text));
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
