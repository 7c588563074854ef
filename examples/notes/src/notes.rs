//! The notes themselves: a bounded map, without MCP or HTTP.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

/// How many notes fit; creating one more is refused.
pub const MAX_NOTES: usize = 10_000;
/// The longest title, in bytes.
pub const MAX_TITLE_BYTES: usize = 200;
/// The longest body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// A note as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Note {
    /// Identifies the note; never used again after deletion.
    pub id: u64,
    /// One line.
    pub title: String,
    /// Any text.
    pub body: String,
}

/// Why an operation was refused; the text says what to do.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// No note has this id.
    #[error("no note has id {0}: list_notes shows the ids that exist")]
    NotFound(u64),
    /// [`MAX_NOTES`] are stored.
    #[error("there are {MAX_NOTES} notes already: delete one first")]
    Full,
    /// A title or body is over its bound.
    #[error("{field} is {actual} bytes long: at most {max} fit")]
    TooLong {
        /// `title` or `body`.
        field: &'static str,
        /// Bytes that were sent.
        actual: usize,
        /// Bytes that fit.
        max: usize,
    },
}

/// All notes, by id.
#[derive(Debug, Default)]
pub struct Notes {
    by_id: BTreeMap<u64, Note>,
    last_id: u64,
}

impl Notes {
    /// Stores a new note under the next id.
    pub fn create(&mut self, title: String, body: String) -> Result<Note, NoteError> {
        check_lengths(&title, &body)?;
        if self.by_id.len() >= MAX_NOTES {
            return Err(NoteError::Full);
        }
        self.last_id += 1;
        let note = Note {
            id: self.last_id,
            title,
            body,
        };
        self.by_id.insert(note.id, note.clone());
        Ok(note)
    }

    /// The note with this id.
    pub fn read(&self, id: u64) -> Result<Note, NoteError> {
        self.by_id.get(&id).cloned().ok_or(NoteError::NotFound(id))
    }

    /// Every note, oldest first.
    pub fn list(&self) -> Vec<Note> {
        self.by_id.values().cloned().collect()
    }

    /// Replaces what is given and keeps the rest.
    pub fn update(
        &mut self,
        id: u64,
        title: Option<String>,
        body: Option<String>,
    ) -> Result<Note, NoteError> {
        let note = self.by_id.get_mut(&id).ok_or(NoteError::NotFound(id))?;
        let title = title.unwrap_or_else(|| note.title.clone());
        let body = body.unwrap_or_else(|| note.body.clone());
        check_lengths(&title, &body)?;
        *note = Note { id, title, body };
        Ok(note.clone())
    }

    /// Removes the note and returns what it was.
    pub fn delete(&mut self, id: u64) -> Result<Note, NoteError> {
        self.by_id.remove(&id).ok_or(NoteError::NotFound(id))
    }
}

fn check_lengths(title: &str, body: &str) -> Result<(), NoteError> {
    let bounds = [
        ("title", title.len(), MAX_TITLE_BYTES),
        ("body", body.len(), MAX_BODY_BYTES),
    ];
    for (field, actual, max) in bounds {
        if actual > max {
            return Err(NoteError::TooLong { field, actual, max });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_created_read_updated_listed_and_deleted() {
        let mut notes = Notes::default();
        let note = notes.create("milk".into(), "two litres".into()).unwrap();
        assert_eq!(notes.read(note.id).unwrap(), note);
        let changed = notes
            .update(note.id, None, Some("three litres".into()))
            .unwrap();
        assert_eq!(
            (changed.title.as_str(), changed.body.as_str()),
            ("milk", "three litres")
        );
        assert_eq!(notes.list(), vec![changed.clone()]);
        assert_eq!(notes.delete(note.id).unwrap(), changed);
        assert_eq!(notes.read(note.id), Err(NoteError::NotFound(note.id)));
    }

    #[test]
    fn an_id_is_never_used_again() {
        let mut notes = Notes::default();
        let first = notes.create(String::new(), String::new()).unwrap();
        notes.delete(first.id).unwrap();
        assert_ne!(
            notes.create(String::new(), String::new()).unwrap().id,
            first.id
        );
    }

    #[test]
    fn what_is_over_a_bound_is_refused_and_changes_nothing() {
        let mut notes = Notes::default();
        let long = "x".repeat(MAX_TITLE_BYTES + 1);
        assert!(matches!(
            notes.create(long.clone(), String::new()),
            Err(NoteError::TooLong { field: "title", .. })
        ));
        let note = notes.create("short".into(), String::new()).unwrap();
        assert!(notes.update(note.id, Some(long), None).is_err());
        assert_eq!(notes.list(), vec![note]);
        for _ in 1..MAX_NOTES {
            notes.create(String::new(), String::new()).unwrap();
        }
        assert_eq!(
            notes.create(String::new(), String::new()),
            Err(NoteError::Full)
        );
    }
}
