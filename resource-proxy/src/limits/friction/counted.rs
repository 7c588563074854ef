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

/// The methods that any valid token may call. They are not counted.
const FREE: [&str; 11] = [
    "initialize",
    "ping",
    "server/discover",
    "tools/list",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
    "roots/list",
    "tasks/list",
    "logging/setLevel",
    "subscriptions/listen",
];
/// The counted methods of MCP besides `tools/call`.
const METHODS: [&str; 5] = [
    "resources/read",
    "resources/subscribe",
    "resources/unsubscribe",
    "prompts/get",
    "completion/complete",
];
/// Every method that begins with `tasks/`.
const TASKS: &str = "tasks";
/// Every method that MCP does not define.
const OTHER: &str = "other methods";

impl<'a> Counted<'a> {
    /// The call of a message with this method and `params.name`. None: it is not counted.
    #[must_use]
    pub fn of(method: &str, name: Option<&'a str>) -> Option<Self> {
        if FREE.contains(&method) || method.starts_with("notifications/") {
            return None;
        }
        if let ("tools/call", Some(tool)) = (method, name) {
            return Some(Self::Tool(tool));
        }
        let known = METHODS.into_iter().find(|known| *known == method);
        let or_else = if method.starts_with("tasks/") {
            TASKS
        } else {
            OTHER
        };
        Some(Self::Method(known.unwrap_or(or_else)))
    }
}

#[cfg(test)]
mod tests {
    use super::Counted;

    #[test]
    fn every_guarded_method_counts() {
        let tool = Counted::of("tools/call", Some("read"));
        assert_eq!(tool, Some(Counted::Tool("read")));
        for (method, counted) in [
            ("resources/read", "resources/read"),
            ("resources/subscribe", "resources/subscribe"),
            ("prompts/get", "prompts/get"),
            ("completion/complete", "completion/complete"),
            ("tasks/get", "tasks"),
            ("tasks/made-up", "tasks"),
            ("acme/export", "other methods"),
            ("acme/list", "other methods"),
        ] {
            let found = Counted::of(method, Some("made-up"));
            assert_eq!(found, Some(Counted::Method(counted)), "{method}");
        }
        for method in ["initialize", "ping", "tools/list", "notifications/x"] {
            assert_eq!(Counted::of(method, None), None, "{method}");
        }
    }
}
