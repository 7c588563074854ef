//! The condition types and reasons in the status of our kinds. They are part of the API.

/// Condition types.
pub mod types {
    /// The summary: the object currently does what its spec says.
    pub const READY: &str = "Ready";
    /// Something changes by itself: pods are replaced, a registration or a policy is on its way.
    pub const PROGRESSING: &str = "Progressing";
    /// Every proxy runs the policy of this generation.
    pub const POLICY_APPLIED: &str = "PolicyApplied";
    /// True while there is a problem that needs manual action.
    pub const DEGRADED: &str = "Degraded";
    /// At least one of its pods is serving.
    pub const AVAILABLE: &str = "Available";
    /// It is registered with the authorization server, as its spec says.
    pub const REGISTERED: &str = "Registered";
    /// A managed database is kept that the spec no longer uses.
    pub const DATABASE_LEFT_BEHIND: &str = "DatabaseLeftBehind";
    /// Its pods meet the restricted Pod Security Standard.
    pub const POD_SECURITY_RESTRICTED: &str = "PodSecurityRestricted";
}

/// Condition reasons.
pub mod reasons {
    /// There is no problem.
    pub const READY: &str = "Ready";
    /// Pods are not ready, or not of the current revision.
    pub const PODS_NOT_READY: &str = "PodsNotReady";
    /// Kubernetes cannot create pods.
    pub const PODS_NOT_CREATED: &str = "PodsNotCreated";
    /// Pods did not become ready in time.
    pub const ROLLOUT_STUCK: &str = "RolloutStuck";
    /// Not all proxies run the policy yet.
    pub const POLICY_PENDING: &str = "PolicyPending";
    /// A proxy rejects the policy, and keeps the previous one.
    pub const POLICY_REJECTED: &str = "PolicyRejected";
    /// A pod does not answer.
    pub const UNREACHABLE: &str = "Unreachable";
    /// An upgrade of the operator has not reached the pods yet.
    pub const UPGRADE_WAITING: &str = "UpgradeWaiting";
    /// `spec.replicas` is 0.
    pub const SCALED_TO_ZERO: &str = "ScaledToZero";
    /// PostgreSQL is not ready, or does not respond.
    pub const DATABASE_NOT_READY: &str = "DatabaseNotReady";
    /// The spec asks for another major version of PostgreSQL than the volume holds.
    pub const DATABASE_MAJOR_CHANGE: &str = "DatabaseMajorChange";
    /// `spec.storage` changed from a managed database to something else.
    pub const STORAGE_CHANGED: &str = "StorageChanged";
    /// The object does not parse, or its spec is inconsistent.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// The spec asks for pods below the restricted Pod Security Standard.
    pub const BELOW_RESTRICTED: &str = "BelowRestricted";
    /// An object that is not ours already has a child's name.
    pub const NAME_CONFLICT: &str = "NameConflict";
    /// Another resource has the same URL at the authorization server.
    pub const RESOURCE_CONFLICT: &str = "ResourceConflict";
    /// A Secret, or a ConfigMap with a CA, that the spec names does not exist.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// A Secret, or a ConfigMap with a CA, that the spec names lacks a key, or has an unusable value.
    pub const SECRET_INVALID: &str = "SecretInvalid";
    /// A Secret that must keep its value is missing or damaged.
    pub const SECRET_LOST: &str = "SecretLost";
    /// The McpAuthServer does not exist.
    pub const AUTH_SERVER_NOT_FOUND: &str = "AuthServerNotFound";
    /// The McpAuthServer does not allow references from this namespace.
    pub const REFERENCE_NOT_PERMITTED: &str = "ReferenceNotPermitted";
    /// The authorization server does not respond.
    pub const AUTH_SERVER_UNREACHABLE: &str = "AuthServerUnreachable";
    /// The authorization server rejected the request.
    pub const AUTH_SERVER_REFUSED: &str = "AuthServerRefused";
    /// A ProtectedMcpServer that the spec names does not exist.
    pub const RESOURCE_NOT_FOUND: &str = "ResourceNotFound";
    /// The Kubernetes API rejected a write.
    pub const APPLY_FAILED: &str = "ApplyFailed";
    /// The operator lacks a permission.
    pub const ACCESS_DENIED: &str = "AccessDenied";
    /// The object is being deleted.
    pub const DELETING: &str = "Deleting";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// The values of the constants in a module of this file.
    fn constants(module: &str) -> BTreeSet<&'static str> {
        let source = include_str!("conditions.rs");
        let (_, body) = source.split_once(&format!("pub mod {module} {{")).unwrap();
        let (body, _) = body.split_once("\n}").unwrap();
        let lines = body.lines().filter(|line| line.contains("pub const"));
        lines.map(|line| line.split('"').nth(1).unwrap()).collect()
    }

    /// The first cells of the table under a heading, each without its backquotes.
    fn documented(heading: &str) -> BTreeSet<&'static str> {
        let page = include_str!("../../../docs/operations/troubleshooting.md");
        let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
        let section = section
            .split_once("\n## ")
            .map_or(section, |(section, _)| section);
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let cells = rows.map(|row| row.split_once(" |").unwrap().0);
        let names = cells.flat_map(|cell| cell.split(", "));
        names.map(|name| name.trim_matches('`')).collect()
    }

    #[test]
    fn the_page_explains_every_reason_and_no_other() {
        let reasons = constants("reasons");
        assert!(reasons.len() > 20, "{reasons:?}");
        assert_eq!(documented("Reasons"), reasons);
    }

    #[test]
    fn the_page_explains_every_condition_and_no_other() {
        let types = constants("types");
        assert!(types.len() > 5, "{types:?}");
        assert_eq!(documented("Conditions"), types);
    }
}
