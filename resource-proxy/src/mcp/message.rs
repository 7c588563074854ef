//! The JSON-RPC messages of a body, parsed only as far as decisions require.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use lenient::{Maybe, MaybeText, Members};

/// Maximum nesting depth of a body. Most JSON parsers have this limit, so the server can parse what
/// is accepted here.
const MAX_DEPTH: usize = 128;
/// How many messages a batch may have.
const MAX_BATCH: usize = 100;
/// The key of `_meta` that names the revision of MCP, since 2026-07-28.
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// The key of `_meta` with the client's capabilities, since 2026-07-28.
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// A JSON-RPC message, as far as decisions depend on it.
#[derive(Debug, Default, PartialEq)]
pub struct Message<'a> {
    /// `method`; none in a response.
    pub method: Option<Cow<'a, str>>,
    /// `id`, for the answer to a message that is refused; none in a notification.
    pub id: Option<Value>,
    /// It has a `result` or an `error`: it answers a request of the server.
    pub is_answer: bool,
    /// What `params` names.
    pub params: Params<'a>,
}

/// The strings in `params` that name what a method works on.
#[derive(Debug, Default, PartialEq)]
pub struct Params<'a> {
    /// `params.name`: the tool or the prompt.
    pub name: Option<Cow<'a, str>>,
    /// `params.uri`: the resource.
    pub uri: Option<Cow<'a, str>>,
    /// `params.taskId`.
    pub task_id: Option<Cow<'a, str>>,
    /// `params.ref`: the prompt or the resource that a completion is for.
    pub reference: Reference<'a>,
    /// The version in `params._meta`.
    pub version: Option<Cow<'a, str>>,
    /// `traceparent` in `params._meta`, since 2026-07-28.
    pub traceparent: Option<Cow<'a, str>>,
    /// `tracestate` in `params._meta`.
    pub tracestate: Option<Cow<'a, str>>,
    /// The client takes a task for an answer: `params.task`, or a capability in `params._meta`.
    pub takes_task: bool,
    /// There is a key that a lenient parser would treat as one of those above.
    pub(super) has_lookalike: bool,
}

/// What a completion is for.
#[derive(Debug, Default, PartialEq)]
pub struct Reference<'a> {
    /// `type`: `ref/prompt` or `ref/resource`.
    pub kind: Option<Cow<'a, str>>,
    /// The prompt.
    pub name: Option<Cow<'a, str>>,
    /// The resource, or a template of resources.
    pub uri: Option<Cow<'a, str>>,
    has_lookalike: bool,
}

/// The content of a body.
#[derive(Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every body is one message, which needs no memory of the heap this way"
)]
pub enum Messages<'a> {
    /// One message.
    Single(Message<'a>),
    /// Several, which MCP 2025-03-26 allows.
    Batch(Vec<Message<'a>>),
}

/// Why a body is refused. The text is for the client.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not JSON (JSON-RPC: −32700).
    #[error("the body is not JSON: {0}")]
    Parse(String),
    /// JSON, but not a message that access rules can be applied to (JSON-RPC: −32600).
    #[error("{0}")]
    Invalid(String),
    /// What a method works on is not named, or not clearly (JSON-RPC: −32602).
    #[error("{text}")]
    Params {
        /// For the client.
        text: String,
        /// The id of the message.
        id: Option<Value>,
    },
}

impl Fault {
    /// The JSON-RPC error code.
    pub fn code(&self) -> i32 {
        match self {
            Self::Parse(_) => -32700,
            Self::Invalid(_) => -32600,
            Self::Params { .. } => -32602,
        }
    }
}

impl<'a> Messages<'a> {
    /// Reads a body.
    ///
    /// # Errors
    /// Input that two parsers could read differently is rejected: invalid UTF-8, a duplicate key, a key or
    /// method that differs from a relevant one only by case or a NUL, too deep nesting, a guarded method
    /// that does not say what it is about.
    pub fn read(body: &'a [u8]) -> Result<Self, Fault> {
        let messages = Self::parse(body)?;
        messages.check()?;
        Ok(messages)
    }

    /// Reads a body without [`Self::check`].
    ///
    /// # Errors
    /// Input that two parsers could read differently is rejected.
    pub fn parse(body: &'a [u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(body).map_err(|error| Fault::Parse(error.to_string()))?;
        if depth(body) > MAX_DEPTH {
            let message = format!("the body nests deeper than {MAX_DEPTH} levels");
            return Err(Fault::Invalid(message));
        }
        let messages: Self = serde_json::from_str(text).map_err(|error| {
            if error.is_data() {
                Fault::Invalid(error.to_string())
            } else {
                Fault::Parse(error.to_string())
            }
        })?;
        if matches!(&messages, Self::Batch(batch) if batch.is_empty()) {
            return Err(Fault::Invalid("the batch is empty".into()));
        }
        Ok(messages)
    }

    /// Whether each message says what it does and, where that is guarded, what it is about.
    ///
    /// # Errors
    /// One does not.
    pub fn check(&self) -> Result<(), Fault> {
        self.iter().try_for_each(Message::check)
    }

    /// Every message.
    pub fn iter(&self) -> std::slice::Iter<'_, Message<'a>> {
        match self {
            Self::Single(message) => std::slice::from_ref(message).iter(),
            Self::Batch(messages) => messages.iter(),
        }
    }

    /// The id of the first message: that of a request that is not a batch.
    pub fn first_id(&self) -> Option<Value> {
        self.iter().next()?.id.clone()
    }

    /// Whether the client asks which revisions there are.
    pub fn discovers(&self) -> bool {
        matches!(self, Self::Single(message) if message.method.as_deref() == Some("server/discover"))
    }

    /// Whether the client asks for a stream that does not end by itself (MCP 2026-07-28).
    pub fn listens(&self) -> bool {
        self.iter()
            .any(|message| message.method.as_deref() == Some("subscriptions/listen"))
    }
}

impl Message<'_> {
    /// What deserializing does not check.
    fn check(&self) -> Result<(), Fault> {
        if self.method.is_none() && !self.is_answer {
            let text = "a message needs a method, a result or an error";
            return Err(Fault::Invalid(text.into()));
        }
        self.check_target()
    }
}

/// The nesting depth of arrays and objects. Invalid JSON is rejected later, by the parser.
fn depth(body: &[u8]) -> usize {
    let (mut now, mut deepest) = (0_usize, 0);
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                now += 1;
                deepest = deepest.max(now);
            }
            b'}' | b']' => now = now.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

/// Whether `key` is `name`, which is ASCII, to some parser.
pub(super) fn folds_to(key: &str, name: &str) -> bool {
    folded(key).eq_ignore_ascii_case(name)
}

/// What is left of a key to a parser that ignores case in some way, but for the case of ASCII letters, and to one that ends
/// a string at NUL, as C's do. To Go, `ſ` and the Kelvin sign are letters of ASCII; to Java and in Turkish `ı` and `İ` are;
/// to what folds as Unicode does a ligature like `ﬆ` is two.
pub(super) fn folded(key: &str) -> Cow<'_, str> {
    let key = key.split('\0').next().unwrap_or_default();
    if key.is_ascii() {
        return Cow::Borrowed(key);
    }
    // The dot of `İ` in lower case is a character of its own.
    let key = key.replace('\u{130}', "i").replace('\u{307}', "");
    let lower = key.chars().flat_map(char::to_lowercase);
    Cow::Owned(lower.flat_map(char::to_uppercase).collect())
}

/// Marks the key at `index` as seen.
fn once<E: de::Error>(seen: &mut u8, index: usize, key: &str) -> Result<(), E> {
    if *seen & (1 << index) != 0 {
        return Err(E::custom(format_args!(
            "the key {key:?} appears more than once"
        )));
    }
    *seen |= 1 << index;
    Ok(())
}

impl<'de: 'a, 'a> Deserialize<'de> for Messages<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Messages<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON-RPC message or a batch of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                MessageVisitor.visit_map(map).map(Messages::Single)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut messages = Vec::new();
                while let Some(message) = seq.next_element()? {
                    if messages.len() == MAX_BATCH {
                        let text = format_args!(
                            "the batch has more than {MAX_BATCH} messages; send fewer at once"
                        );
                        return Err(de::Error::custom(text));
                    }
                    messages.push(message);
                }
                Ok(Messages::Batch(messages))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Message<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MessageVisitor)
    }
}

struct MessageVisitor;

impl<'de> Visitor<'de> for MessageVisitor {
    type Value = Message<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON-RPC message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        const KEYS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
        let mut message = Message::default();
        let mut seen = 0;
        while let Some(Text(key)) = map.next_key()? {
            if let Some(index) = KEYS.iter().position(|known| *known == key) {
                once(&mut seen, index, &key)?;
            } else if KEYS.iter().any(|known| folds_to(&key, known)) {
                return Err(de::Error::custom(format_args!("unknown key {key:?}")));
            }
            match &*key {
                "method" => message.method = Some(map.next_value::<Text<'de>>()?.0),
                "id" => message.id = Some(map.next_value::<Id>()?.0),
                "params" => message.params = map.next_value()?,
                "result" | "error" => {
                    message.is_answer = true;
                    map.next_value::<IgnoredAny>()?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(message)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Params<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ParamsVisitor;
        impl<'de> Visitor<'de> for ParamsVisitor {
            type Value = Params<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object, an array or null as params")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Params::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Params::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                const KEYS: [&str; 7] =
                    ["name", "uri", "taskId", "ref", "_meta", "task", "arguments"];
                let mut params = Params::default();
                let mut seen = 0;
                while let Some(Text(key)) = map.next_key()? {
                    match KEYS.iter().position(|known| *known == key) {
                        Some(index) => once(&mut seen, index, &key)?,
                        None => params.has_lookalike |= is_lookalike(&key, &KEYS),
                    }
                    match &*key {
                        "name" => params.name = map.next_value::<MaybeText<'de>>()?.0,
                        "uri" => params.uri = map.next_value::<MaybeText<'de>>()?.0,
                        "taskId" => params.task_id = map.next_value::<MaybeText<'de>>()?.0,
                        "ref" => {
                            params.reference = map.next_value::<Maybe<Reference<'de>>>()?.0;
                            params.has_lookalike |= params.reference.has_lookalike;
                        }
                        "_meta" => {
                            let meta = map.next_value::<Maybe<Meta<'de>>>()?.0;
                            params.version = meta.version;
                            params.traceparent = meta.traceparent;
                            params.tracestate = meta.tracestate;
                            params.takes_task |= meta.takes_task;
                        }
                        "task" => {
                            params.takes_task = true;
                            map.next_value::<IgnoredAny>()?;
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(params)
            }
        }
        deserializer.deserialize_any(ParamsVisitor)
    }
}

/// A string, borrowed where it has no escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de> Members<'de> for Reference<'de> {
    fn read<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        const KEYS: [&str; 3] = ["type", "name", "uri"];
        let mut reference = Self::default();
        let mut seen = 0;
        while let Some(Text(key)) = map.next_key()? {
            match KEYS.iter().position(|known| *known == key) {
                Some(index) => once(&mut seen, index, &key)?,
                None => reference.has_lookalike |= is_lookalike(&key, &KEYS),
            }
            match &*key {
                "type" => reference.kind = map.next_value::<MaybeText<'de>>()?.0,
                "name" => reference.name = map.next_value::<MaybeText<'de>>()?.0,
                "uri" => reference.uri = map.next_value::<MaybeText<'de>>()?.0,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(reference)
    }
}

/// What is read of `params._meta`.
#[derive(Default)]
struct Meta<'a> {
    version: Option<Cow<'a, str>>,
    traceparent: Option<Cow<'a, str>>,
    tracestate: Option<Cow<'a, str>>,
    takes_task: bool,
}

impl<'de> Members<'de> for Meta<'de> {
    fn read<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        const KEYS: [&str; 2] = [VERSION, CAPABILITIES];
        let mut meta = Self::default();
        let mut seen = 0;
        while let Some(Text(key)) = map.next_key()? {
            if let Some(index) = KEYS.iter().position(|known| *known == key) {
                once(&mut seen, index, &key)?;
            }
            match &*key {
                VERSION => meta.version = map.next_value::<MaybeText<'de>>()?.0,
                "traceparent" => meta.traceparent = map.next_value::<MaybeText<'de>>()?.0,
                "tracestate" => meta.tracestate = map.next_value::<MaybeText<'de>>()?.0,
                CAPABILITIES => {
                    let capabilities = map.next_value::<Maybe<Capabilities>>()?.0;
                    meta.takes_task = capabilities.extensions.has_tasks;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(meta)
    }
}

/// What is read of a client's capabilities.
#[derive(Default)]
struct Capabilities {
    extensions: Extensions,
}

impl<'de> Members<'de> for Capabilities {
    fn read<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut capabilities = Self::default();
        while let Some(Text(key)) = map.next_key()? {
            if key == "extensions" {
                capabilities.extensions = map.next_value::<Maybe<Extensions>>()?.0;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(capabilities)
    }
}

/// Which extensions a client has.
#[derive(Default)]
struct Extensions {
    has_tasks: bool,
}

impl<'de> Members<'de> for Extensions {
    fn read<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut extensions = Self::default();
        while let Some(Text(key)) = map.next_key()? {
            extensions.has_tasks |= key == "io.modelcontextprotocol/tasks";
            map.next_value::<IgnoredAny>()?;
        }
        Ok(extensions)
    }
}

/// A string, a number or null (JSON-RPC 2.0, section 4). Anything else is refused: as a tree of values
/// it would take about ten times the memory of its text.
struct Id(Value);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a number as id")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Id(text.into()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Id(number.into()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Id(number.into()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Id(number.into()))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Id(Value::Null))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

/// Whether a lenient parser would take `key` for one of `known`, which it is not.
fn is_lookalike(key: &str, known: &[&str]) -> bool {
    known.iter().any(|known| folds_to(key, known))
}

mod lenient;

#[cfg(test)]
mod tests;
