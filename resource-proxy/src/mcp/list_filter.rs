//! What a caller sees of the server's lists and events: what the caller's token may use.
//!
//! Lists are known by their shape, because a resumed stream may carry the answer to any request. What is not removed
//! stays as the server wrote it, byte for byte.

use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::de::IgnoredAny;

use crate::auth::authorize::{AccessRules, Operation};
use crate::auth::identity::Identity;
use crate::mcp::discover;
use crate::mcp::param_headers::ParamHeaders;
use crate::mcp::spans::{Edit, apply, elements, members, string, value};
use crate::mcp::tasks::Tasks;
use crate::mcp::uri::{self, Kind};

/// Who sees, and by which rules.
#[derive(Clone, Debug)]
pub struct View {
    /// The rules in force, whenever something is filtered: a stream outlives them.
    pub rules: Arc<ArcSwap<AccessRules>>,
    /// The caller.
    pub caller: Arc<Identity>,
    /// The tasks that are known.
    pub tasks: Arc<Tasks>,
    /// Learns from the lists of tools of MCP 2026-07-28.
    pub param_headers: Arc<ParamHeaders>,
    /// A list must say who may cache it (MCP 2026-07-28).
    pub says_cache_scope: bool,
    /// What the answer to `server/discover` is to declare.
    pub extensions: Vec<String>,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filtered {
    /// It stays as it is.
    Unchanged,
    /// This takes its place.
    Changed(Vec<u8>),
    /// It is about something that the caller may not use.
    Removed,
}

/// The message is not JSON, so nobody knows what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// What the rules are asked: an event needs what is held; a list may show more.
type Say = fn(&AccessRules, Operation<'_>, &Identity) -> bool;

/// What the entries of a list are.
#[derive(Clone, Copy)]
enum Entry {
    Tool,
    Resource,
    Template,
    Prompt,
    Task,
}

impl Entry {
    /// Of a list of this name in a result, and which member names an entry.
    fn of(list: &str) -> Option<(Self, &'static str)> {
        Some(match list {
            "tools" => (Self::Tool, "name"),
            "resources" => (Self::Resource, "uri"),
            "resourceTemplates" => (Self::Template, "uriTemplate"),
            "prompts" => (Self::Prompt, "name"),
            "tasks" => (Self::Task, "taskId"),
            _ => return None,
        })
    }

    /// What notifications of this method are about, and which parameter names it.
    fn of_event(method: &str) -> Option<(Self, &'static str)> {
        Some(match method {
            "notifications/resources/updated" => (Self::Resource, "uri"),
            "notifications/tasks" | "notifications/tasks/status" => (Self::Task, "taskId"),
            _ => return None,
        })
    }
}

/// Whether an array of this name in a result is a list.
pub fn is_list(name: &str) -> bool {
    Entry::of(name).is_some()
}

/// Whether notifications of this method are not for every caller.
pub fn is_event(method: &str) -> bool {
    Entry::of_event(method).is_some()
}

impl View {
    /// What the caller sees of a message, or of a batch of them.
    ///
    /// # Errors
    /// The text is not JSON.
    pub fn filter(&self, text: &[u8]) -> Result<Filtered, Unreadable> {
        let valid = std::str::from_utf8(text).map_err(|_| Unreadable)?;
        serde_json::from_str::<IgnoredAny>(valid).map_err(|_| Unreadable)?;
        let whole = value(text, 0);
        let mut edits = Vec::new();
        if text.get(whole.start) == Some(&b'[') {
            for message in elements(text, whole.start) {
                if !self.message(text, message.start, &mut edits) {
                    // In a batch, an event is replaced by one without content.
                    edits.push((message, br#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"debug","data":null}}"#.to_vec()));
                }
            }
        } else if !self.message(text, whole.start, &mut edits) {
            return Ok(Filtered::Removed);
        }
        Ok(match edits.is_empty() {
            true => Filtered::Unchanged,
            false => Filtered::Changed(apply(text, edits)),
        })
    }

    /// Collects what changes in the message at `at`. False: the caller may not see it at all.
    fn message(&self, text: &[u8], at: usize, edits: &mut Vec<Edit>) -> bool {
        let mut is_seen = true;
        for (name, value) in members(text, at) {
            match string(text, &name).as_deref() {
                Some("result") => self.result(text, value.start, edits),
                Some("method") => {
                    let method = string(text, &value).unwrap_or_default();
                    is_seen &= Entry::of_event(&method)
                        .is_none_or(|(entry, member)| self.sees_event(text, at, member, entry));
                }
                _ => {}
            }
        }
        is_seen
    }

    fn sees_event(&self, text: &[u8], at: usize, member: &str, entry: Entry) -> bool {
        let mut params =
            members(text, at).filter(|(name, _)| string(text, name).as_deref() == Some("params"));
        params.all(|(_, params)| self.sees(text, params.start, member, entry, AccessRules::allows))
    }

    fn result(&self, text: &[u8], at: usize, edits: &mut Vec<Edit>) {
        if !self.extensions.is_empty() {
            edits.extend(discover::declare(text, at, &self.extensions));
        }
        let (mut is_list, mut cache_scope) = (false, None);
        let sees_all = self.rules.load().show_all();
        for (name, value) in members(text, at) {
            let Some(name) = string(text, &name) else {
                continue;
            };
            if name == "cacheScope" {
                cache_scope = Some(value);
                continue;
            }
            let is_array = text.get(value.start) == Some(&b'[');
            let Some((entry, member)) = Entry::of(&name).filter(|_| is_array) else {
                continue;
            };
            if matches!(entry, Entry::Tool) && self.says_cache_scope {
                self.param_headers
                    .learn(&self.caller.subject, text, value.start);
            }
            is_list |= !matches!(entry, Entry::Task);
            if sees_all && !matches!(entry, Entry::Task) {
                continue;
            }
            self.list(text, value, member, entry, edits);
        }
        if !is_list || sees_all {
            return;
        }
        match cache_scope {
            Some(span) if text.get(span.clone()) != Some(PRIVATE) => {
                edits.push((span, PRIVATE.to_vec()));
            }
            None if self.says_cache_scope => {
                // A list has at least one member, so a comma follows.
                let start = value(text, at).start + 1;
                let member = [br#""cacheScope":"#, PRIVATE, b","].concat();
                edits.push((start..start, member));
            }
            _ => {}
        }
    }

    fn list(
        &self,
        text: &[u8],
        list: Range<usize>,
        member: &str,
        entry: Entry,
        edits: &mut Vec<Edit>,
    ) {
        let mut kept = Vec::with_capacity(list.len());
        let mut is_whole = true;
        for element in elements(text, list.start) {
            if self.sees(text, element.start, member, entry, AccessRules::shows) {
                let separator: &[u8] = if kept.is_empty() { b"[" } else { b"," };
                kept.extend_from_slice(separator);
                kept.extend_from_slice(text.get(element).unwrap_or_default());
            } else {
                is_whole = false;
            }
        }
        if !is_whole {
            if kept.is_empty() {
                kept.push(b'[');
            }
            kept.push(b']');
            edits.push((list, kept));
        }
    }

    /// Whether the rules say so of what the object at `at` names, however often it does.
    fn sees(&self, text: &[u8], at: usize, member: &str, entry: Entry, say: Say) -> bool {
        let mut is_named = false;
        for (name, value) in members(text, at) {
            if string(text, &name).as_deref() != Some(member) {
                continue;
            }
            is_named = true;
            if !string(text, &value).is_some_and(|name| self.sees_named(&name, entry, say)) {
                return false;
            }
        }
        is_named
    }

    fn sees_named(&self, name: &str, entry: Entry, say: Say) -> bool {
        let operation = match entry {
            Entry::Tool => Operation::Tool(name),
            Entry::Prompt => Operation::Prompt(name),
            Entry::Resource if uri::check(name, Kind::Uri).is_ok() => Operation::Resource(name),
            Entry::Template if uri::check(name, Kind::Template).is_ok() => {
                Operation::Resource(name)
            }
            Entry::Resource | Entry::Template => return false,
            Entry::Task => return self.tasks.begun_by(&self.caller, name).is_some(),
        };
        say(&self.rules.load(), operation, &self.caller)
    }
}

/// The value of `cacheScope` of what depends on the token (SEP-2549).
const PRIVATE: &[u8] = br#""private""#;

#[cfg(test)]
mod tests;
