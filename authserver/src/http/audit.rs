//! The audit of the request under way: handlers note what they learn about it, and say what happened. A refusal says it by
//! itself, when the response is one.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;

use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode, header};
use mcpauth_service::audit::budget::Source;
use mcpauth_service::audit::{Audit, bounded};
use mcpauth_service::trace::trace_id;

use crate::audit::{About, Event, Line, Origin, Refusal, Request as Asked};
use crate::http::error::Refused;
use crate::http::peer::Peer;
use crate::http::route::Route;

/// How much of a `User-Agent` is kept, in bytes.
const MAX_USER_AGENT: usize = 256;

tokio::task_local! {
    static UNDER_WAY: UnderWay;
}

/// What the audit would say of the request under way.
pub(super) struct UnderWay(Box<Noted>);

struct Noted {
    audit: Audit,
    route: Route,
    address: IpAddr,
    user_agent: Option<HeaderValue>,
    trace_id: Option<String>,
    /// Whether its method is one that changes something.
    changes: bool,
    about: RefCell<About>,
    /// Whether a line has said what came of it.
    settled: Cell<bool>,
}

impl UnderWay {
    /// None where there is no audit, or no connection. Most requests have no line, so nothing of it is written yet.
    pub(super) fn new(
        audit: &Audit,
        route: Route,
        peer: Option<Peer>,
        head: &Parts,
    ) -> Option<Self> {
        if !audit.is_on() {
            return None;
        }
        Some(Self(Box::new(Noted {
            audit: audit.clone(),
            route,
            address: peer?.0,
            user_agent: head.headers.get(header::USER_AGENT).cloned(),
            trace_id: trace_id(&head.headers).map(str::to_owned),
            changes: head.method != Method::GET,
            about: RefCell::default(),
            settled: Cell::new(false),
        })))
    }
}

impl Noted {
    fn write(&self, event: Event) {
        let user_agent = self.user_agent.as_ref();
        let user_agent = user_agent.map(|value| String::from_utf8_lossy(value.as_bytes()));
        let line = Line {
            event,
            about: &self.about.borrow(),
            origin: Origin {
                endpoint: self.route.as_str(),
                address: self.address,
                user_agent: user_agent.map(|text| bounded(&text, MAX_USER_AGENT)),
                trace_id: self.trace_id.as_deref(),
            },
        };
        match event.is_by_anybody() {
            true => {
                let network = Source::Network(Peer(self.address).network());
                let (name, _) = event.names();
                self.audit.record_within_budget(name, network, &line);
            }
            false => self.audit.record(&line),
        }
    }

    /// A line for a refusal that none was written for.
    fn refused(&self, response: &Response) {
        let Some(refused) = response.extensions().get::<Refused>() else {
            return;
        };
        if self.settled.get() || response.status() == StatusCode::METHOD_NOT_ALLOWED {
            return;
        }
        let asked = Asked::of(self.route.as_str(), refused.error, self.changes);
        if let Some(asked) = asked {
            let error = refused.error;
            self.about.borrow_mut().refused(error, &refused.reason);
            self.write(Event::Refused(
                asked,
                Refusal::of(response.status().as_u16()),
            ));
        }
    }
}

/// Answers a request, with an audit line for its refusal. Its response has a [`Refused`] if it is one.
pub(super) async fn request(
    under_way: Option<UnderWay>,
    answered: impl Future<Output = Response>,
) -> Response {
    match under_way {
        None => answered.await,
        Some(under_way) => {
            let answered = async {
                let response = answered.await;
                UNDER_WAY.with(|under_way| under_way.0.refused(&response));
                response
            };
            UNDER_WAY.scope(under_way, answered).await
        }
    }
}

/// Notes something about the request under way.
pub(super) fn about(note: impl FnOnce(&mut About)) {
    // Without an audit there is nobody to note it for.
    let _ = UNDER_WAY.try_with(|under_way| note(&mut under_way.0.about.borrow_mut()));
}

/// Writes what happened, with all that was noted.
pub(super) fn record(event: Event) {
    let _ = UNDER_WAY.try_with(|under_way| {
        under_way.0.settled.set(true);
        under_way.0.write(event);
    });
}
