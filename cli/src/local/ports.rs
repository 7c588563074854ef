//! Loopback addresses: those in URLs of the manifests, and free ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use anyhow::{Context, bail};
use url::{Host, Url};

/// The address to listen on for the URL in `field`.
///
/// # Errors
/// When the URL is not http on loopback.
pub fn address_of(field: &str, url: &str) -> anyhow::Result<SocketAddr> {
    let parsed = Url::parse(url).with_context(|| format!("{field}: {url} is not a URL"))?;
    let ip = match parsed.host() {
        Some(Host::Domain("localhost")) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Some(Host::Ipv4(ip)) if ip == Ipv4Addr::LOCALHOST => ip.into(),
        Some(Host::Ipv6(ip)) if ip == Ipv6Addr::LOCALHOST => ip.into(),
        _ => bail!("{field}: {url} is not on this machine: use localhost, 127.0.0.1 or [::1]"),
    };
    if parsed.scheme() != "http" {
        bail!("{field}: {url} needs TLS, which `local` does not support: use http on localhost");
    }
    Ok(SocketAddr::new(
        ip,
        parsed.port_or_known_default().unwrap_or(80),
    ))
}

/// Checks that the address from `field` is free.
///
/// # Errors
/// When it is in use or cannot be bound, with what to do.
pub fn check_free(field: &str, address: SocketAddr) -> anyhow::Result<()> {
    let port = address.port();
    let shows = if cfg!(target_os = "linux") {
        format!("ss -ltnp 'sport = :{port}'")
    } else {
        format!("lsof -nP -iTCP:{port} -sTCP:LISTEN")
    };
    TcpListener::bind(address).map(drop).with_context(|| {
        format!(
            "cannot listen on {address}: stop the program that uses the port (find it with `{shows}`), or change the port in {field}"
        )
    })
}

/// A free address on loopback.
///
/// # Errors
/// When there is none.
pub fn free() -> anyhow::Result<SocketAddr> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_give_loopback_addresses() {
        let address = |url| address_of("issuer", url).unwrap().to_string();
        assert_eq!(address("http://localhost:9000"), "127.0.0.1:9000");
        assert_eq!(address("http://[::1]:9001/mcp"), "[::1]:9001");
        assert_eq!(address("http://127.0.0.1/x"), "127.0.0.1:80");
        for url in ["https://localhost:9000", "http://auth.example", "nonsense"] {
            assert!(address_of("issuer", url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_port_that_is_taken_is_named_with_what_to_do() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        let error = check_free("spec.issuer", address).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()), "{error}");
        assert!(error.contains("change the port in spec.issuer"), "{error}");
    }
}
