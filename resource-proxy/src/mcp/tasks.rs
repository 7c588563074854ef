//! Tasks that went out to clients, and whose they are: a task belongs to the client and subject whose call began it, and
//! using it needs the rule of that call again.
//!
//! They are kept in this process, so a task is not known in another replica. Ids are hashed together with their owner:
//! the same id of two callers is two tasks.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::auth::authorize::Operation;
use crate::auth::identity::Identity;
use crate::limits::fair_table::{FairTable, Key, key};

/// How many tasks are remembered.
const MOST: usize = 8192;
/// How many of one subject, whatever its clients.
const MOST_OF_ONE: usize = 512;
/// The longest name of an operation that is remembered, in bytes: a bound on memory.
const LONGEST_NAME: usize = 1024;

/// The tasks that are remembered.
#[derive(Debug)]
pub struct Tasks(Mutex<FairTable<Call>>);

impl Default for Tasks {
    fn default() -> Self {
        Self(Mutex::new(FairTable::new(MOST, MOST_OF_ONE)))
    }
}

/// A call that may begin a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    kind: Kind,
    name: Box<str>,
}

/// The kinds of [`Operation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tool,
    Resource,
    Prompt,
    Method,
}

impl Call {
    /// Of this operation, if tasks that it begins can be remembered.
    pub fn new(operation: Operation<'_>) -> Option<Self> {
        let kind = match operation {
            Operation::Tool(_) => Kind::Tool,
            Operation::Resource(_) => Kind::Resource,
            Operation::Prompt(_) => Kind::Prompt,
            Operation::Method(_) => Kind::Method,
        };
        let name = operation.name();
        let fits = name.len() <= LONGEST_NAME;
        fits.then(|| Self {
            kind,
            name: name.into(),
        })
    }

    /// The operation.
    pub fn operation(&self) -> Operation<'_> {
        match self.kind {
            Kind::Tool => Operation::Tool(&self.name),
            Kind::Resource => Operation::Resource(&self.name),
            Kind::Prompt => Operation::Prompt(&self.name),
            Kind::Method => Operation::Method(&self.name),
        }
    }
}

impl Tasks {
    /// Remembers that a call of this caller began a task.
    pub fn remember(&self, caller: &Identity, id: &str, call: Call) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.insert(key(&[&caller.subject]), task_key(caller, id), call, 1);
    }

    /// The call of this caller that began a task, if it is known here.
    pub fn begun_by(&self, caller: &Identity, id: &str) -> Option<Call> {
        let tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.get(&task_key(caller, id)).cloned()
    }
}

/// The id of the task that a message of the server is about, if it says that one has begun: as MCP 2025-11-25 does, or as
/// the extension of 2026-07-28.
pub fn begun(message: &[u8]) -> Option<String> {
    let message: Value = serde_json::from_slice(message).ok()?;
    let result = message.get("result")?;
    let is_task = result.get("resultType").and_then(Value::as_str) == Some("task");
    let task = if is_task { result } else { result.get("task")? };
    Some(task.get("taskId")?.as_str()?.to_owned())
}

fn task_key(caller: &Identity, id: &str) -> Key {
    key(&[&caller.client_id, &caller.subject, id])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(client_id: &str, subject: &str) -> Identity {
        Identity {
            client_id: client_id.into(),
            subject: subject.into(),
            scopes: vec![],
            grantable: vec![],
        }
    }

    fn call(name: &str) -> Call {
        Call::new(Operation::Tool(name)).unwrap()
    }

    #[test]
    fn a_task_belongs_to_the_client_and_the_subject_that_began_it() {
        let tasks = Tasks::default();
        let owner = caller("client", "alice");
        tasks.remember(&owner, "t", call("read"));
        let begun = tasks.begun_by(&owner, "t").unwrap();
        assert_eq!(begun.operation(), Operation::Tool("read"));
        for other in [
            caller("client", "bob"),
            caller("other", "alice"),
            caller("clientalice", ""),
        ] {
            assert_eq!(tasks.begun_by(&other, "t"), None);
        }
        assert_eq!(tasks.begun_by(&owner, "other"), None);
        // A server that gives two callers the same id has two tasks.
        let bob = caller("client", "bob");
        tasks.remember(&bob, "t", call("write"));
        assert_eq!(tasks.begun_by(&owner, "t"), Some(call("read")));
        assert_eq!(tasks.begun_by(&bob, "t"), Some(call("write")));
    }

    #[test]
    fn a_task_that_begins_is_recognized() {
        for (message, id) in [
            (
                r#"{"id":1,"result":{"task":{"taskId":"t","status":"working"}}}"#,
                Some("t"),
            ),
            (
                r#"{"id":1,"result":{"resultType":"task","taskId":"t"}}"#,
                Some("t"),
            ),
            (
                r#"{"id":1,"result":{"resultType":"complete","taskId":"t"}}"#,
                None,
            ),
            (r#"{"id":1,"result":{"content":[{"taskId":"t"}]}}"#, None),
            (r#"{"method":"x","params":{"task":{"taskId":"t"}}}"#, None),
            (r#"{"id":1,"result":{"task":{"taskId":5}}}"#, None),
            ("{", None),
        ] {
            assert_eq!(begun(message.as_bytes()).as_deref(), id, "{message}");
        }
    }

    #[test]
    fn more_clients_of_a_subject_are_no_way_to_more_tasks() {
        let tasks = Tasks::default();
        let alice = caller("client", "alice");
        tasks.remember(&alice, "first", call("read"));
        for client in 0..20 {
            for id in 0..MOST_OF_ONE {
                let bob = caller(&client.to_string(), "bob");
                tasks.remember(&bob, &id.to_string(), call("read"));
            }
        }
        assert!(tasks.begun_by(&alice, "first").is_some());
        let last = |id: usize| tasks.begun_by(&caller("19", "bob"), &id.to_string());
        assert!(last(0).is_some() && last(MOST_OF_ONE - 1).is_some());
        assert!(tasks.begun_by(&caller("18", "bob"), "511").is_none());
    }

    #[test]
    fn an_operation_with_a_name_too_long_begins_nothing() {
        let name = "a".repeat(LONGEST_NAME + 1);
        assert_eq!(Call::new(Operation::Tool(&name)), None);
    }
}
