//! `clientAddress`: whose word a program takes for the address that a request comes from.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::Invalid;
use crate::invalid::Bounds;

/// How many networks of proxies can be trusted.
pub const TRUSTED_PROXY_COUNT: Bounds = Bounds::new(1, 64);
/// The length of a network in CIDR notation, in characters.
pub const NETWORK_LENGTH: Bounds = Bounds::new(1, 43);
/// The length of the header's name, in characters.
pub const HEADER_LENGTH: Bounds = Bounds::new(1, 64);
/// What the header's name looks like: a token of RFC 9110, section 5.6.2, as far as proxies use it.
pub const HEADER_PATTERN: &str = "^[A-Za-z0-9][-A-Za-z0-9]*$";
/// How many addresses of a request are looked at, from the nearest one. A request passes fewer proxies.
const HOPS: usize = 32;

/// The proxies in front of a program, and the header in which they say where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientAddress {
    /// The networks that the proxies connect from, in CIDR notation: [`TRUSTED_PROXY_COUNT`].
    pub trusted_proxies: Vec<String>,
    /// A list of addresses, to which each proxy appends the one that it was connected from.
    #[serde(default = "x_forwarded_for")]
    pub header: String,
}

/// The header that nearly all proxies send.
#[must_use]
pub fn x_forwarded_for() -> String {
    "X-Forwarded-For".to_owned()
}

impl ClientAddress {
    /// Checks networks and header.
    ///
    /// # Errors
    /// The first thing that is wrong, below `key`.
    pub fn check(&self, key: &str) -> Result<(), Invalid> {
        self.trusted_proxies(key).map(drop)
    }

    /// The proxies, ready to be asked.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn trusted_proxies(&self, key: &str) -> Result<TrustedProxies, Invalid> {
        let list = format!("{key}.trustedProxies");
        TRUSTED_PROXY_COUNT.list(&list, &self.trusted_proxies)?;
        let networks = self.trusted_proxies.iter().enumerate();
        let networks = networks.map(|(at, text)| {
            network(text).map_err(|text| Invalid::new(format!("{list}[{at}]"), text))
        });
        let networks = networks.collect::<Result<_, _>>()?;
        check_header(&self.header).map_err(|text| Invalid::new(format!("{key}.header"), text))?;
        Ok(TrustedProxies {
            networks,
            header: self.header.to_ascii_lowercase(),
        })
    }
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    let network = cidr(text)
        .ok_or("must be a network in CIDR notation, such as 192.0.2.10/32 or 2001:db8::/64")?;
    if network.prefix_len() == 0 {
        return Err(
            "covers every address, so that anyone could claim any address; name the networks of the proxies alone",
        );
    }
    match network {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            Err("is an IPv4 address in IPv6 notation; write it as IPv4")
        }
        network => Ok(network),
    }
}

/// Stricter than ipnet, which reads `010.0.0.0/08`: to some readers that is octal.
fn cidr(text: &str) -> Option<IpNet> {
    let (address, prefix) = text.split_once('/')?;
    let plain =
        prefix.bytes().all(|c| c.is_ascii_digit()) && (prefix == "0" || !prefix.starts_with('0'));
    let prefix = prefix.parse().ok().filter(|_| plain)?;
    IpNet::new(address.parse().ok()?, prefix).ok()
}

fn check_header(name: &str) -> Result<(), &'static str> {
    let of_token = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    if !HEADER_LENGTH.hold(name.len()) || !name.bytes().all(of_token) || name.starts_with('-') {
        return Err("must be the name of a header, such as X-Forwarded-For");
    }
    if name.eq_ignore_ascii_case("Forwarded") {
        return Err(
            "Forwarded (RFC 7239) is not supported; let the proxy send a list of addresses, such as X-Forwarded-For",
        );
    }
    Ok(())
}

/// The proxies whose header is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    header: String,
}

impl TrustedProxies {
    /// The name of their header, in lower case.
    #[must_use]
    pub fn header(&self) -> &str {
        &self.header
    }

    /// Where a request comes from that arrived over a connection from `peer` with these values of the header, in the order of
    /// the request. Each proxy appends the address that it was connected from, so the list is read from its end, as far as
    /// proxies are trusted: what stands before the first address of anybody else can be made up.
    ///
    /// An entry that is no address ends the walk at the proxy that sent it.
    pub fn client<'a>(
        &self,
        peer: IpAddr,
        values: impl DoubleEndedIterator<Item = &'a str>,
    ) -> IpAddr {
        let mut client = peer.to_canonical();
        let entries = values.rev().flat_map(|value| value.rsplit(','));
        for entry in entries.take(HOPS) {
            if !self.trusts(client) {
                break;
            }
            let Some(address) = address(entry) else { break };
            client = address;
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks
            .iter()
            .any(|network| network.contains(&address))
    }
}

/// An entry of the list: an address, as some proxies write it with a port, and IPv6 in brackets.
fn address(entry: &str) -> Option<IpAddr> {
    let entry = entry.trim_matches([' ', '\t']);
    let address = entry.parse::<IpAddr>().ok();
    let with_port = || entry.parse::<std::net::SocketAddr>().ok().map(|a| a.ip());
    let in_brackets = || {
        let inside = entry.strip_prefix('[')?.strip_suffix(']')?;
        inside.parse::<std::net::Ipv6Addr>().ok().map(IpAddr::V6)
    };
    let address = address.or_else(with_port).or_else(in_brackets)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(networks: &[&str]) -> TrustedProxies {
        let config = ClientAddress {
            trusted_proxies: networks.iter().map(ToString::to_string).collect(),
            header: x_forwarded_for(),
        };
        config.trusted_proxies("clientAddress").unwrap()
    }

    fn client(peer: &str, values: &[&str]) -> String {
        let proxies = proxies(&["10.0.0.0/8", "192.0.2.10/32", "2001:db8:1::/48"]);
        let client = proxies.client(peer.parse().unwrap(), values.iter().copied());
        client.to_string()
    }

    #[test]
    fn the_nearest_address_that_is_no_trusted_proxy_is_the_client() {
        for (peer, values, expected) in [
            ("203.0.113.7", &["198.51.100.1"][..], "203.0.113.7"),
            ("192.0.2.10", &["198.51.100.1"], "198.51.100.1"),
            ("192.0.2.11", &["198.51.100.1"], "192.0.2.11"),
            ("192.0.2.10", &[], "192.0.2.10"),
            ("10.1.1.1", &["198.51.100.1, 10.2.2.2"], "198.51.100.1"),
            ("10.1.1.1", &["198.51.100.1", "10.2.2.2"], "198.51.100.1"),
            ("10.1.1.1", &["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
            (
                "10.1.1.1",
                &["6.6.6.6", "198.51.100.1, 10.2.2.2"],
                "198.51.100.1",
            ),
            ("10.1.1.1", &["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            ("2001:db8:1::1", &["2001:db8:2::5"], "2001:db8:2::5"),
            ("::ffff:10.1.1.1", &["198.51.100.1"], "198.51.100.1"),
            ("10.1.1.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
            ("10.1.1.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("10.1.1.1", &["[2001:db8:2::5]:4711"], "2001:db8:2::5"),
            ("10.1.1.1", &["[2001:db8:2::5]"], "2001:db8:2::5"),
        ] {
            assert_eq!(client(peer, values), expected, "{peer} {values:?}");
        }
    }

    #[test]
    fn an_entry_that_is_no_address_ends_the_walk_at_the_proxy_that_sent_it() {
        for bad in [
            "unknown",
            "_hidden",
            "",
            " ",
            "198.51.100.1.example",
            "1.2.3",
            "[::1",
            "fe80::1%eth0",
        ] {
            assert_eq!(client("10.1.1.1", &[bad]), "10.1.1.1", "{bad:?}");
            let chain = format!("198.51.100.1, {bad}, 10.2.2.2");
            assert_eq!(client("10.1.1.1", &[&chain]), "10.2.2.2", "{bad:?}");
        }
    }

    #[test]
    fn a_list_without_end_is_not_read_to_its_end() {
        let hops = format!("198.51.100.1{}", ", 10.2.2.2".repeat(1000));
        assert_eq!(client("10.1.1.1", &[&hops]), "10.2.2.2");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_key() {
        for (networks, header, expected) in [
            (&[][..], "X-Forwarded-For", "clientAddress.trustedProxies: "),
            (
                &["10.0.0.1"],
                "X-Forwarded-For",
                "clientAddress.trustedProxies[0]: must be a network",
            ),
            (
                &["10.0.0.0/8", "10.0.0.0/33"],
                "X-Forwarded-For",
                "clientAddress.trustedProxies[1]: must be a network",
            ),
            (
                &["010.0.0.0/8"],
                "X-Forwarded-For",
                "clientAddress.trustedProxies[0]: must be a network",
            ),
            (
                &["10.0.0.0/08"],
                "X-Forwarded-For",
                "clientAddress.trustedProxies[0]: must be a network",
            ),
            (
                &["0.0.0.0/0"],
                "X-Forwarded-For",
                "clientAddress.trustedProxies[0]: covers every address",
            ),
            (
                &["::/0"],
                "X-Forwarded-For",
                "clientAddress.trustedProxies[0]: covers every address",
            ),
            (
                &["::ffff:10.0.0.0/104"],
                "X-Forwarded-For",
                "clientAddress.trustedProxies[0]: is an IPv4 address",
            ),
            (
                &["10.0.0.0/8"],
                "",
                "clientAddress.header: must be the name of a header",
            ),
            (
                &["10.0.0.0/8"],
                "X Forwarded",
                "clientAddress.header: must be the name of a header",
            ),
            (
                &["10.0.0.0/8"],
                "forwarded",
                "clientAddress.header: Forwarded (RFC 7239) is not supported",
            ),
        ] {
            let config = ClientAddress {
                trusted_proxies: networks.iter().map(ToString::to_string).collect(),
                header: header.to_owned(),
            };
            let error = config.check("clientAddress").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
