//! The open connections of a port, and which of them gives way when there are too many.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio_util::sync::CancellationToken;

/// The requests in flight on a connection. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Requests>);

#[derive(Debug, Default)]
struct Requests {
    in_flight: AtomicUsize,
    changed: Notify,
}

/// A request in flight, until it is dropped.
#[derive(Debug)]
pub struct InFlight(Activity);

impl Activity {
    /// A request begins.
    pub fn begin(&self) -> InFlight {
        self.0.in_flight.fetch_add(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
        InFlight(self.clone())
    }

    /// Whether there is no request.
    pub fn is_quiet(&self) -> bool {
        self.0.in_flight.load(Ordering::SeqCst) == 0
    }

    /// Ends when there is no request.
    pub async fn quiet(&self) {
        loop {
            let changed = self.changed();
            if self.is_quiet() {
                return;
            }
            changed.await;
        }
    }

    /// Ends when a request begins or ends after this call, whenever it is waited for.
    pub fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let Requests { in_flight, changed } = &*self.0.0;
        in_flight.fetch_sub(1, Ordering::SeqCst);
        changed.notify_waiters();
    }
}

/// The network that an address belongs to, as far as one user can have all of it: an IPv4 address, or a /64 of IPv6.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// The open connections of a port.
#[derive(Debug, Default)]
pub(crate) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// Of each network, by age.
    networks: HashMap<IpAddr, BTreeMap<u64, Entry>>,
}

#[derive(Debug)]
struct Entry {
    activity: Activity,
    evicted: CancellationToken,
}

/// An open connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    open: Arc<Mutex<Open>>,
    network: IpAddr,
    number: u64,
    /// Its requests.
    pub(crate) activity: Activity,
    /// It has to give way.
    pub(crate) evicted: CancellationToken,
}

impl Connections {
    /// Notes a new connection.
    pub(crate) fn enter(&self, peer: SocketAddr) -> Connection {
        let activity = Activity::default();
        let evicted = CancellationToken::new();
        let network = network(peer.ip());
        let mut open = lock(&self.0);
        let number = open.next;
        open.next += 1;
        let entry = Entry {
            activity: activity.clone(),
            evicted: evicted.clone(),
        };
        let of_network = open.networks.entry(network).or_default();
        of_network.insert(number, entry);
        drop(open);
        Connection {
            open: Arc::clone(&self.0),
            network,
            number,
            activity,
            evicted,
        }
    }

    /// Makes room: of the network that has most connections, the oldest one without a request ends. None ends while all
    /// have requests.
    pub(crate) fn evict(&self) {
        let open = lock(&self.0);
        // Each new connection asks while a flood of them lasts, so the connections are not gone through one by one.
        let mut largest: Option<(usize, u64, &Entry)> = None;
        for of_network in open.networks.values() {
            let count = of_network.len();
            if largest.is_some_and(|(most, ..)| count < most) {
                continue;
            }
            let mut by_age = of_network.iter();
            let quiet = by_age.find(|(_, e)| e.activity.is_quiet() && !e.evicted.is_cancelled());
            if let Some((number, entry)) = quiet
                && largest.is_none_or(|(most, oldest, _)| count > most || *number < oldest)
            {
                largest = Some((count, *number, entry));
            }
        }
        if let Some((.., entry)) = largest {
            entry.evicted.cancel();
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        if let Some(of_network) = open.networks.get_mut(&self.network) {
            of_network.remove(&self.number);
            if of_network.is_empty() {
                open.networks.remove(&self.network);
            }
        }
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn the_oldest_idle_one_of_the_largest_network_gives_way() {
        let connections = Connections::default();
        let enter = |peer: &str| connections.enter(format!("{peer}:1").parse().unwrap());
        let alone = enter("192.0.2.1");
        let crowd: Vec<_> = (1..4).map(|n| enter(&format!("[2001:db8::{n}]"))).collect();
        let busy = crowd[0].activity.begin();
        let evicted = || {
            crowd
                .iter()
                .map(|c| c.evicted.is_cancelled())
                .collect::<Vec<_>>()
        };
        connections.evict();
        assert_eq!(evicted(), [false, true, false]);
        connections.evict();
        assert_eq!(evicted(), [false, true, true]);
        assert!(!alone.evicted.is_cancelled());
        drop(crowd);
        drop(busy);
        connections.evict();
        assert!(alone.evicted.is_cancelled());
    }

    #[tokio::test]
    async fn a_connection_is_quiet_when_the_last_of_its_requests_has_ended() {
        let activity = Activity::default();
        activity.quiet().await;
        let [first, second] = [activity.begin(), activity.begin()];
        let mut quiet = std::pin::pin!(activity.quiet());
        let mut context = Context::from_waker(Waker::noop());
        let mut waits = || quiet.as_mut().poll(&mut context).is_pending();
        assert!(waits());
        drop(first);
        assert!(waits());
        drop(second);
        assert!(!waits());
        // A request that begins and ends before anybody waits is a change.
        let changed = activity.changed();
        drop(activity.begin());
        changed.await;
    }

    #[test]
    fn whoever_has_an_address_of_ipv6_has_its_network() {
        let of = |address: &str| network(address.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:0:1:ffff::1"), "2001:db8:0:1::");
        assert_eq!(of("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(of("192.0.2.1"), "192.0.2.1");
    }
}
