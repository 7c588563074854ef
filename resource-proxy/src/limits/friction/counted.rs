//! What friction counts.

/// A call of a guarded method: one that an access rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted<'a> {
    /// A call of this tool.
    Tool(&'a str),
    /// Another method, by its name in metrics. Resources, prompts and tasks are not told apart, because a
    /// client could choose any number of names.
    Method(&'static str),
}
