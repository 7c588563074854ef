//! Why a file of manifests cannot be used.

/// Why a file of manifests cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The file does not parse as YAML.
    #[error("the file is not valid YAML: {0}")]
    Yaml(String),
    /// A document (counted from 1) of an unsupported kind.
    #[error(
        "document {0}: unsupported kind {1}; this command reads only McpAuthServer, ProtectedMcpServer and McpOAuthClient (mcpauth.io/v1alpha1) and Secret (v1): remove the document from the file"
    )]
    Kind(usize, String),
    /// An unknown field.
    #[error("{0}: unknown field \"{1}\"")]
    UnknownField(String, String),
    /// A document that does not parse as its kind.
    #[error("{0}: {1}")]
    Invalid(String, String),
    /// Two objects of the same kind and name: their files would have the same names.
    #[error("{0} is defined twice: names must be unique in the file, even across namespaces")]
    Twice(String),
    /// Not exactly one authorization server.
    #[error("the file has {0} McpAuthServers: it must have exactly one")]
    AuthServers(usize),
    /// No protected server.
    #[error("the file has no ProtectedMcpServer: it must have at least one")]
    NoServer,
    /// A reference to an object that is not in the file.
    #[error("{from} references {to}, which is not in the file: add it, or correct the reference")]
    Missing {
        /// The referencing object.
        from: String,
        /// The referenced object.
        to: String,
    },
}
