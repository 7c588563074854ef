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
    /// The URL of its internal port in the cluster, which is also the audience of the tokens that it accepts there.
    pub fn audience(&self) -> String {
        names::internal_url(&self.namespace, &self.name)
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
        assert_eq!(
            server.audience(),
            "http://auth-authserver-internal.default.svc:8081"
        );
    }
}
