//! Tasks that went out to clients, and whose they are: a task belongs to the client and subject whose call began it, and
//! using it needs the rule of that call again.
//!
//! They are kept in this process, so a task is not known in another replica. Ids are hashed together with their owner:
//! the same id of two callers is two tasks.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;

use crate::auth::authorize::Operation;
use crate::auth::identity::Identity;

/// How many tasks are remembered. Then the subject with the most of them loses its oldest, so that nobody displaces the
/// tasks of those who have fewer.
const MOST: usize = 8192;
/// How many of one subject, whatever its clients; its oldest is forgotten.
const MOST_OF_ONE: usize = 512;
/// The longest name of an operation that is remembered, in bytes: a bound on memory.
const LONGEST_NAME: usize = 1024;

type Key = [u8; 32];

/// The tasks that are remembered.
#[derive(Debug, Default)]
pub struct Tasks(Mutex<Table>);

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

#[derive(Debug, Default)]
struct Table {
    tasks: HashMap<Key, Task>,
    /// Each subject's tasks, the oldest first.
    subjects: HashMap<Key, VecDeque<Key>>,
    /// How many each has.
    sizes: BTreeSet<(usize, Key)>,
}

#[derive(Debug)]
struct Task {
    subject: Key,
    call: Call,
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
        let (subject, key) = (hash(&[&caller.subject]), task_key(caller, id));
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.forget(key);
        let own = table.subjects.get(&subject).map_or(0, VecDeque::len);
        let loses = match own >= MOST_OF_ONE {
            true => Some(subject),
            false if table.tasks.len() >= MOST => table.sizes.last().map(|(_, most)| *most),
            false => None,
        };
        let oldest = loses.and_then(|subject| table.subjects.get(&subject)?.front().copied());
        if let Some(oldest) = oldest {
            table.forget(oldest);
        }
        table.change(subject, |tasks| tasks.push_back(key));
        table.tasks.insert(key, Task { subject, call });
    }

    /// The call of this caller that began a task, if it is known here.
    pub fn begun_by(&self, caller: &Identity, id: &str) -> Option<Call> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let task = table.tasks.get(&task_key(caller, id))?;
        Some(task.call.clone())
    }
}

impl Table {
    fn forget(&mut self, key: Key) {
        if let Some(task) = self.tasks.remove(&key) {
            self.change(task.subject, |tasks| tasks.retain(|one| *one != key));
        }
    }

    /// Changes which tasks a subject has.
    fn change(&mut self, subject: Key, change: impl FnOnce(&mut VecDeque<Key>)) {
        let tasks = self.subjects.entry(subject).or_default();
        self.sizes.remove(&(tasks.len(), subject));
        change(tasks);
        if tasks.is_empty() {
            self.subjects.remove(&subject);
        } else {
            self.sizes.insert((tasks.len(), subject));
        }
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
    hash(&[&caller.client_id, &caller.subject, id])
}

/// Lengths keep the parts apart.
fn hash(parts: &[&str]) -> Key {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut key = Key::default();
    key.copy_from_slice(context.finish().as_ref());
    key
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
    fn who_begins_many_tasks_displaces_only_his_own() {
        let tasks = Tasks::default();
        let (alice, bob) = (caller("client", "alice"), caller("client", "bob"));
        tasks.remember(&alice, "first", call("read"));
        for id in 0..=MOST_OF_ONE {
            tasks.remember(&bob, &id.to_string(), call("read"));
        }
        assert!(tasks.begun_by(&alice, "first").is_some());
        assert!(tasks.begun_by(&bob, "0").is_none());
        assert!(tasks.begun_by(&bob, "1").is_some());
        assert_eq!(tasks.0.lock().unwrap().tasks.len(), MOST_OF_ONE + 1);
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
        assert_eq!(tasks.0.lock().unwrap().tasks.len(), MOST_OF_ONE + 1);
    }

    #[test]
    fn who_has_most_loses_the_oldest() {
        let tasks = Tasks::default();
        let alice = caller("client", "alice");
        tasks.remember(&alice, "first", call("read"));
        for subject in 0..17 {
            let other = caller("client", &subject.to_string());
            for id in 0..MOST_OF_ONE {
                tasks.remember(&other, &id.to_string(), call("read"));
            }
        }
        assert!(tasks.begun_by(&alice, "first").is_some());
        tasks.remember(&alice, "second", call("read"));
        assert!(tasks.begun_by(&alice, "first").is_some());
        let table = tasks.0.lock().unwrap();
        assert_eq!(table.tasks.len(), MOST);
        let others = table.subjects.values().map(VecDeque::len);
        assert!(
            others
                .filter(|number| *number != 2)
                .all(|number| number > MOST_OF_ONE - 50)
        );
    }

    #[test]
    fn all_together_are_bounded_and_nothing_is_left_of_what_is_forgotten() {
        let tasks = Tasks::default();
        for subject in 0..40 {
            let caller = caller("client", &subject.to_string());
            for id in 0..MOST / 20 {
                tasks.remember(&caller, &id.to_string(), call("read"));
                tasks.remember(&caller, &id.to_string(), call("read"));
            }
        }
        let table = tasks.0.lock().unwrap();
        let of_subjects: usize = table.subjects.values().map(VecDeque::len).sum();
        assert_eq!([table.tasks.len(), of_subjects], [MOST; 2]);
        assert_eq!(table.sizes.len(), table.subjects.len());
        drop(table);
        assert_eq!(
            Call::new(Operation::Tool(&"a".repeat(LONGEST_NAME + 1))),
            None
        );
    }
}
