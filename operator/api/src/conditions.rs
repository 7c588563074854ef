//! The condition types and reasons that stand in the status of our kinds. They are part of the API.

/// Condition types.
pub mod types {
    /// The summary: the object does what its spec says, now.
    pub const READY: &str = "Ready";
    /// True while something is wrong that only a person can mend.
    pub const DEGRADED: &str = "Degraded";
    /// Some pod of it serves.
    pub const AVAILABLE: &str = "Available";
    /// The authorization server knows it as the spec has it.
    pub const REGISTERED: &str = "Registered";
    /// Its pods meet the restricted Pod Security Standard.
    pub const POD_SECURITY_RESTRICTED: &str = "PodSecurityRestricted";
}

/// Condition reasons.
pub mod reasons {
    /// Everything is as it should be.
    pub const READY: &str = "Ready";
    /// Pods are not up, or not up to date.
    pub const PODS_NOT_READY: &str = "PodsNotReady";
    /// The object asks for no pods.
    pub const SCALED_TO_ZERO: &str = "ScaledToZero";
    /// PostgreSQL is not up, or does not answer.
    pub const DATABASE_NOT_READY: &str = "DatabaseNotReady";
    /// The object does not parse, or contradicts itself.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// The spec asks for pods below the restricted Pod Security Standard.
    pub const BELOW_RESTRICTED: &str = "BelowRestricted";
    /// A child's name is taken by an object that is not ours.
    pub const NAME_CONFLICT: &str = "NameConflict";
    /// Another resource has the same URL at the authorization server.
    pub const RESOURCE_CONFLICT: &str = "ResourceConflict";
    /// A Secret that the spec names does not exist.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// A Secret that the spec names lacks a key, or its value is of no use.
    pub const SECRET_INVALID: &str = "SecretInvalid";
    /// A Secret that must keep its value is gone or damaged.
    pub const SECRET_LOST: &str = "SecretLost";
    /// The McpAuthServer does not exist.
    pub const AUTH_SERVER_NOT_FOUND: &str = "AuthServerNotFound";
    /// The McpAuthServer does not admit references from this namespace.
    pub const REFERENCE_NOT_PERMITTED: &str = "ReferenceNotPermitted";
    /// The authorization server does not answer.
    pub const AUTH_SERVER_UNREACHABLE: &str = "AuthServerUnreachable";
    /// The authorization server refused what was sent.
    pub const AUTH_SERVER_REFUSED: &str = "AuthServerRefused";
    /// A ProtectedMcpServer that the spec names does not exist.
    pub const RESOURCE_NOT_FOUND: &str = "ResourceNotFound";
    /// The Kubernetes API refused a write.
    pub const APPLY_FAILED: &str = "ApplyFailed";
    /// The object is being deleted.
    pub const DELETING: &str = "Deleting";
}
