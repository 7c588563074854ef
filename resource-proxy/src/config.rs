//! `proxy.yaml`, whose shape and rules are in [`mcpauth_wire::proxy_config`].

pub use mcpauth_wire::Invalid as ConfigError;
pub use mcpauth_wire::proxy_config::{
    BasicCredential, Introspection, Limits, Listen, ProxyConfig as Config, Upstream,
};

#[cfg(test)]
pub(crate) mod tests {
    /// The smallest configuration with two scopes, and `more` below it.
    pub(crate) fn example(more: &str) -> String {
        format!(
            "
resource: http://localhost:9001/mcp
authorizationServers: [http://localhost:9000]
upstream: {{ url: http://127.0.0.1:8000/mcp }}
introspection: {{ endpoint: http://auth:8081/introspect, tokenFile: /token }}
scopes: [{{ name: notes:read }}, {{ name: notes:write, implies: [notes:read] }}]
{more}"
        )
    }
}
