//! The revisions of MCP, and what each allows on the wire.

use http::{HeaderMap, HeaderName, HeaderValue};
use mcpauth_wire::invalid::printable;

use crate::auth::authorize::Operation;
use crate::mcp::guard::{Guarded, Target};
use crate::mcp::message::{Fault, Messages};

/// The header that names the revision.
pub const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The revisions that clients are told to choose from.
pub const SUPPORTED: [&str; 4] = ["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"];
/// The JSON-RPC error code of a revision that is not supported.
pub const UNSUPPORTED_VERSION: i32 = -32022;

/// A revision of MCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Era {
    /// 2024-11-05, which servers of later revisions may agree to.
    First,
    /// 2025-03-26: the only one with batches. It is assumed where no other is named.
    Batches,
    /// 2025-06-18 and 2025-11-25.
    Sessions,
    /// 2026-07-28: no sessions, and each request says everything.
    Stateless,
}

/// The revision of a request is not supported: what the client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported(pub String);

impl Era {
    /// The revision that a request names in its header; `None` where it has none.
    ///
    /// # Errors
    /// There is no such revision, or there are several headers.
    pub fn declared(headers: &HeaderMap) -> Result<Option<Self>, Unsupported> {
        let mut values = headers.get_all(&VERSION).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        let is_only = values.next().is_none();
        match value.as_bytes() {
            b"2024-11-05" if is_only => Ok(Some(Self::First)),
            b"2025-03-26" if is_only => Ok(Some(Self::Batches)),
            b"2025-06-18" | b"2025-11-25" if is_only => Ok(Some(Self::Sessions)),
            b"2026-07-28" if is_only => Ok(Some(Self::Stateless)),
            other => Err(Unsupported(printable(&String::from_utf8_lossy(other)))),
        }
    }

    /// The revision of a request that names this one, or none.
    pub fn of(declared: Option<Self>) -> Self {
        declared.unwrap_or(Self::Batches)
    }

    /// The revision that these messages are judged by: a revision that is not supported here ends them, unless they ask
    /// which ones are. That answer is the server's, in the manner of the newest revision.
    ///
    /// # Errors
    /// It is not supported.
    pub fn judging(
        declared: &Result<Option<Self>, Unsupported>,
        headers: &HeaderMap,
        messages: &Messages<'_>,
    ) -> Result<Self, Unsupported> {
        let is_only = headers.get_all(&VERSION).iter().count() == 1;
        match declared {
            Ok(declared) => Ok(Self::of(*declared)),
            Err(_) if is_only && messages.discovers() => Ok(Self::Stateless),
            Err(unsupported) => Err(unsupported.clone()),
        }
    }

    /// The message whose method earlier revisions had and this one has not, although it names a resource or a task.
    pub fn removed<'a>(self, messages: &'a Messages<'_>) -> Option<Guarded<'a>> {
        const REMOVED: [&str; 3] = [
            "resources/subscribe",
            "resources/unsubscribe",
            "tasks/result",
        ];
        if self != Self::Stateless {
            return None;
        }
        messages.iter().find_map(|message| {
            let method = message.method.as_deref()?;
            let target = Target::Operation(Operation::Method(method));
            REMOVED
                .contains(&method)
                .then_some(Guarded { message, target })
        })
    }

    /// Whether a request names a revision without sessions, or is from a later one.
    pub fn is_stateless(headers: &HeaderMap) -> bool {
        let value = headers.get(&VERSION).map(HeaderValue::as_bytes);
        value.is_some_and(|value| value.len() == 10 && value >= &b"2026-07-28"[..])
    }

    /// Checks that messages have a form that this revision allows.
    ///
    /// # Errors
    /// It has no batches, no answers from clients, or needs a version in each request.
    pub fn check(self, messages: &Messages<'_>) -> Result<(), Fault> {
        match messages {
            Messages::Batch(batch) => {
                if self != Self::Batches {
                    let text = "only MCP 2025-03-26 has batches; send one message";
                    return Err(Fault::Invalid(text.into()));
                }
                let mut methods = batch.iter().map(|message| message.method.as_deref());
                if methods.any(|method| method == Some("initialize")) {
                    return Err(Fault::Invalid("initialize must not be in a batch".into()));
                }
            }
            Messages::Single(message) if self == Self::Stateless => {
                if message.method.is_none() {
                    let text = "MCP 2026-07-28 has no answers from clients";
                    return Err(Fault::Invalid(text.into()));
                }
                if message.id.is_some() && message.params.version.is_none() {
                    let text =
                        "params._meta needs the member io.modelcontextprotocol/protocolVersion";
                    return Err(Fault::Params {
                        text: text.into(),
                        id: message.id.clone(),
                    });
                }
            }
            Messages::Single(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(versions: &[&'static str]) -> HeaderMap {
        let values = versions.iter().map(|text| HeaderValue::from_static(text));
        values.map(|value| (VERSION, value)).collect()
    }

    #[test]
    fn a_revision_is_known_or_refused() {
        for (version, era) in [
            ("2024-11-05", Era::First),
            ("2025-03-26", Era::Batches),
            ("2025-06-18", Era::Sessions),
            ("2025-11-25", Era::Sessions),
            ("2026-07-28", Era::Stateless),
        ] {
            assert_eq!(Era::declared(&headers(&[version])), Ok(Some(era)));
        }
        assert_eq!(Era::declared(&headers(&[])), Ok(None));
        assert_eq!(Era::of(None), Era::Batches);
        for version in [
            "",
            "2025-06-19",
            "2026-07-29",
            "9999-99-99",
            "latest",
            "v2026-07-28",
        ] {
            let refused = Err(Unsupported(version.to_owned()));
            assert_eq!(Era::declared(&headers(&[version])), refused);
        }
        assert!(Era::declared(&headers(&["2025-06-18", "2026-07-28"])).is_err());
        assert!(Era::declared(&headers(&["2025-06-18", "2025-06-18"])).is_err());
        for version in SUPPORTED {
            assert!(Era::declared(&headers(&[version])).is_ok());
        }
    }

    #[test]
    fn each_revision_allows_its_own_forms() {
        let is_good = |era: Era, body: &str| {
            let messages = Messages::read(body.as_bytes()).unwrap();
            era.check(&messages).is_ok()
        };
        let eras = [Era::First, Era::Batches, Era::Sessions, Era::Stateless];
        for (body, good) in [
            (r#"[{"id":1,"method":"ping"}]"#, &[Era::Batches][..]),
            (r#"[{"id":1,"method":"initialize"}]"#, &[]),
            (r#"{"id":1,"result":{}}"#, &eras[..3]),
            (r#"{"id":1,"method":"ping"}"#, &eras[..3]),
            (
                r#"{"id":1,"method":"ping","params":{"_meta":5}}"#,
                &eras[..3],
            ),
            (r#"{"method":"notifications/cancelled"}"#, &eras),
            (
                r#"{"id":1,"method":"ping","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"x"}}}"#,
                &eras,
            ),
        ] {
            for era in eras {
                assert_eq!(is_good(era, body), good.contains(&era), "{era:?} {body}");
            }
        }
    }
}
