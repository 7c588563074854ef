//! Whether a request is for this host: the guard against DNS rebinding (MCP, Streamable HTTP,
//! security).
//!
//! Rebinding requires a name that the attacker can register. So a name with a dot in it must be the
//! resource's own; addresses, `localhost` and the names that only a cluster's or a compose
//! network's DNS knows are accepted, because clients inside use them to reach the Service. The port is
//! ignored, because port forwarding changes it.

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Uri};

use crate::http::refusal::Refusal;
use crate::resource::Resource;

/// Checks the host that a request names.
///
/// # Errors
/// There is none, there are several, or it is another.
pub fn check(uri: &Uri, headers: &HeaderMap, resource: &Resource) -> Result<(), Refusal> {
    let mut values = headers.get_all(HOST).iter();
    let sent = values.next();
    if values.next().is_some() {
        return Err(Refusal::InvalidRequest(
            "there is more than one Host header; send one",
        ));
    }
    let authority = match (uri.authority(), sent) {
        // An absolute target takes precedence over the header (RFC 9112 section 3.2.2).
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => Authority::try_from(host.as_bytes())
            .map_err(|_| Refusal::InvalidRequest("the Host header is malformed"))?,
        (None, None) => return Err(Refusal::InvalidRequest("there is no Host header")),
    };
    if is_served(authority.host(), resource.host()) {
        Ok(())
    } else {
        Err(Refusal::HostNotServed)
    }
}

fn is_served(host: &str, own: &str) -> bool {
    let host = host.to_ascii_lowercase();
    let host = host.trim_end_matches('.');
    let is_address = host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok();
    let is_internal = host.ends_with(".svc") || host.ends_with(".cluster.local");
    !host.is_empty() && (host == own || is_address || is_internal || !host.contains('.'))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn refused(uri: &str, hosts: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_static(host));
        }
        let resource = Resource::parse("https://mcp.example.com/mcp").unwrap();
        check(&uri.parse().unwrap(), &headers, &resource).is_err()
    }

    #[test]
    fn a_name_that_somebody_else_can_register_is_refused() {
        for host in [
            "mcp.example.com",
            "MCP.example.com:443",
            "mcp.example.com.",
            "localhost:9001",
            "127.0.0.1:8080",
            "10.1.2.3",
            "[::1]:8080",
            "notes",
            "notes.default.svc:8080",
            "notes.default.svc.cluster.local",
        ] {
            assert!(!refused("/mcp", &[host]), "{host}");
        }
        for host in [
            "evil.example",
            "mcp.example.com.evil.example",
            "example.com",
            "127.0.0.1.evil.example",
            "127.0.0.1.nip.io",
            "svc.evil.example",
            "",
            "a b",
        ] {
            assert!(refused("/mcp", &[host]), "{host}");
        }
    }

    #[test]
    fn one_host_and_the_target_before_the_header() {
        assert!(refused("/mcp", &[]));
        assert!(refused("/mcp", &["localhost", "localhost"]));
        assert!(refused("http://evil.example/mcp", &["localhost"]));
        assert!(!refused("http://mcp.example.com/mcp", &[]));
    }
}
