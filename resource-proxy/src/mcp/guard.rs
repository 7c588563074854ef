//! Which rule a method needs: the table of the methods of MCP, in every revision.
//!
//! A method that is not in it is not part of MCP as it is known here, so it needs a rule of its own.

use crate::auth::authorize::Operation;
use crate::mcp::message::{Fault, Message, Messages, folds_to};
use crate::mcp::tasks::Call;
use crate::mcp::uri::{self, Kind};

/// What a caller needs for a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Any valid token.
    AnyToken,
    /// The rule of the tool in `params.name`.
    Tool,
    /// The rule of the resource in `params.uri`.
    Resource,
    /// The rule of the prompt in `params.name`.
    Prompt,
    /// The rule of what `params.ref` names.
    Reference,
    /// The task in `params.taskId` is the caller's, and the rule of the call that began it.
    Task,
    /// The rule of the method.
    Method,
}

/// The methods of MCP. Those that are called most come first.
pub const TABLE: &[(&str, Needs)] = &[
    ("tools/call", Needs::Tool),
    ("tools/list", Needs::AnyToken),
    ("initialize", Needs::AnyToken),
    ("ping", Needs::AnyToken),
    ("server/discover", Needs::AnyToken),
    ("resources/read", Needs::Resource),
    ("resources/list", Needs::AnyToken),
    ("resources/templates/list", Needs::AnyToken),
    ("resources/subscribe", Needs::Resource),
    ("resources/unsubscribe", Needs::Resource),
    ("prompts/get", Needs::Prompt),
    ("prompts/list", Needs::AnyToken),
    ("completion/complete", Needs::Reference),
    ("logging/setLevel", Needs::AnyToken),
    ("subscriptions/listen", Needs::AnyToken),
    ("tasks/get", Needs::Task),
    ("tasks/result", Needs::Task),
    ("tasks/update", Needs::Task),
    ("tasks/cancel", Needs::Task),
    ("tasks/list", Needs::AnyToken),
];
/// The longest name of a tool, a prompt, a task or a method, in bytes. MCP recommends at most 128 characters for tools.
const MAX_NAME: usize = 1024;
/// The longest URI, in bytes.
const MAX_URI: usize = 8192;
/// What the names of notifications begin with.
const NOTIFICATIONS: &str = "notifications/";
/// What the names of methods about tasks begin with: none that is not in the table gets to the server.
const TASKS: &str = "tasks/";

/// A message that needs more than a valid token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guarded<'a> {
    /// The message.
    pub message: &'a Message<'a>,
    /// What it does.
    pub target: Target<'a>,
}

/// What a guarded message does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// An operation, for which there may be a rule.
    Operation(Operation<'a>),
    /// Something with the task of this id.
    Task(&'a str),
}

impl<'a> Target<'a> {
    /// The name, URI, id or method that it is about.
    pub fn name(self) -> &'a str {
        match self {
            Self::Operation(operation) => operation.name(),
            Self::Task(id) => id,
        }
    }
}

/// What a caller needs for a message with this method.
pub fn needs(method: &str) -> Needs {
    match entry(method) {
        Some((_, needs)) => *needs,
        None if method.starts_with(NOTIFICATIONS) => Needs::AnyToken,
        None if method.starts_with(TASKS) => Needs::Task,
        None => Needs::Method,
    }
}

/// The name of a method of MCP.
pub fn known(method: &str) -> Option<&'static str> {
    entry(method).map(|(name, _)| *name)
}

fn entry(method: &str) -> Option<&'static (&'static str, Needs)> {
    TABLE.iter().find(|(known, _)| *known == method)
}

impl<'a> Messages<'a> {
    /// The messages that need more than a valid token, in their order.
    pub fn guarded(&self) -> impl Iterator<Item = Guarded<'_>> + Clone {
        self.iter().filter_map(|message| {
            let target = message.target()?;
            Some(Guarded { message, target })
        })
    }

    /// Whether the answer may hold a list, or events.
    pub fn asks_for_lists(&self) -> bool {
        const LISTS: [&str; 6] = [
            "tools/list",
            "resources/list",
            "resources/templates/list",
            "prompts/list",
            "tasks/list",
            "subscriptions/listen",
        ];
        let mut methods = self.iter().filter_map(|message| message.method.as_deref());
        methods.any(|method| LISTS.contains(&method))
    }

    /// The call that the client lets the server turn into a task, if there is one.
    pub fn may_begin_task(&self) -> Option<Call> {
        let Self::Single(message) = self else {
            // The only revision with batches has no tasks.
            return None;
        };
        match message.target()? {
            Target::Operation(operation) if message.params.takes_task => Call::new(operation),
            _ => None,
        }
    }
}

impl Message<'_> {
    /// What it does; `None` where any token will do.
    fn target(&self) -> Option<Target<'_>> {
        let method = self.method.as_deref()?;
        let params = &self.params;
        let reference = &params.reference;
        let operation = match needs(method) {
            Needs::AnyToken => return None,
            Needs::Task => {
                return Some(Target::Task(params.task_id.as_deref().unwrap_or_default()));
            }
            Needs::Tool => Operation::Tool(params.name.as_deref().unwrap_or_default()),
            Needs::Resource => Operation::Resource(params.uri.as_deref().unwrap_or_default()),
            Needs::Prompt => Operation::Prompt(params.name.as_deref().unwrap_or_default()),
            Needs::Reference => match (&reference.name, &reference.uri) {
                (Some(name), _) => Operation::Prompt(name),
                (None, uri) => Operation::Resource(uri.as_deref().unwrap_or_default()),
            },
            Needs::Method => Operation::Method(method),
        };
        Some(Target::Operation(operation))
    }

    /// Whether it says what it is about in such a way that every server reads the same.
    ///
    /// # Errors
    /// What a guarded method is about is missing, or could be read in two ways.
    pub(super) fn check_target(&self) -> Result<(), Fault> {
        let Some(method) = self.method.as_deref() else {
            return Ok(());
        };
        let params = &self.params;
        let reference = &params.reference;
        let (name, uri) = match needs(method) {
            Needs::AnyToken => return Ok(()),
            Needs::Method => return check_method(method),
            Needs::Tool | Needs::Prompt => (&params.name, None),
            Needs::Task => (&params.task_id, None),
            Needs::Resource => (&params.uri, Some(Kind::Uri)),
            Needs::Reference => {
                match (reference.kind.as_deref(), &reference.name, &reference.uri) {
                    (Some("ref/prompt"), name, None) => (name, None),
                    (Some("ref/resource"), None, uri) => (uri, Some(Kind::Template)),
                    _ => return Err(self.missing(method)),
                }
            }
        };
        let longest = if uri.is_some() { MAX_URI } else { MAX_NAME };
        let name = name.as_deref().filter(|name| {
            !params.has_lookalike && (1..=longest).contains(&name.len()) && !name.contains('\0')
        });
        match (name, uri) {
            (None, _) => Err(self.missing(method)),
            (Some(_), None) => Ok(()),
            (Some(name), Some(kind)) => uri::check(name, kind).map_err(|reason| {
                self.bad_params(format!("the URI {reason}; send it in normal form"))
            }),
        }
    }

    fn missing(&self, method: &str) -> Fault {
        let what = match method {
            "tools/call" | "prompts/get" => "name",
            "completion/complete" => "ref, which names either a prompt or a resource",
            _ if method.starts_with(TASKS) => "taskId",
            _ => "uri",
        };
        self.bad_params(format!(
            "{method} needs exactly one params.{what}: not empty, not too long, without NUL"
        ))
    }

    fn bad_params(&self, text: String) -> Fault {
        Fault::Params {
            text,
            id: self.id.clone(),
        }
    }
}

/// A method that is `tools/call` to one server must be so to all.
fn check_method(method: &str) -> Result<(), Fault> {
    let mut table = TABLE.iter();
    match table.find(|(known, _)| folds_to(method, known)) {
        None if method.len() <= MAX_NAME && !method.contains('\0') => Ok(()),
        None => {
            let text = format!("a method has at most {MAX_NAME} bytes, and no NUL");
            Err(Fault::Invalid(text))
        }
        Some((known, _)) => {
            let text = format!("unknown method {method:?}; did you mean {known:?}?");
            Err(Fault::Invalid(text))
        }
    }
}

#[cfg(test)]
mod tests;
