//! The identity of an authorization server.

use std::fmt;

use crate::desired::names;

/// A McpAuthServer, by namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Server {
    /// The URL of its internal port in the cluster, with or without TLS, which is also the audience of the tokens that it
    /// accepts there.
    #[must_use]
    pub fn url(&self, tls: bool) -> String {
        names::internal_url(&self.namespace, &self.name, tls)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_audience_is_the_internal_url() {
        let (namespace, name) = ("default".into(), "auth".into());
        let server = Server { namespace, name };
        let host = "auth-authserver-internal.default.svc:8081";
        assert_eq!(server.url(false), format!("http://{host}"));
        assert_eq!(server.url(true), format!("https://{host}"));
    }
}
