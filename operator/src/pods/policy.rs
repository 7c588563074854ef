//! Which policy the proxies run: they are asked in the background, and reconciles look at what they said.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use mcpauth_wire::proxy_health::InForce;
use tokio::sync::Semaphore;

use super::health::Health;
use crate::text::{one_line, shorten};

/// An object with proxies, by namespace and name.
type Key = (String, String);

/// How many pods are asked at once.
const AT_ONCE: usize = 64;
/// How often a pod may not answer before that counts.
const SILENT: u32 = 2;

/// A proxy's process: a restart makes another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    pod: String,
    restarts: i32,
}

/// A pod with a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyPod {
    /// Its name.
    pub name: String,
    process: Process,
    /// Its health port; none while the proxy does not run.
    address: Option<SocketAddr>,
}

impl ProxyPod {
    /// The pod, if it is not about to end. `container` is the proxy's.
    pub fn of(pod: &Pod, container: &str) -> Option<Self> {
        let status = pod.status.as_ref();
        let phase = status.and_then(|s| s.phase.as_deref());
        if pod.metadata.deletion_timestamp.is_some()
            || matches!(phase, Some("Succeeded" | "Failed"))
        {
            return None;
        }
        let mut proxies = status.and_then(|s| s.init_container_statuses.as_ref());
        let proxy = proxies
            .iter_mut()
            .flat_map(|all| all.iter())
            .find(|c| c.name == container);
        let runs = proxy.is_some_and(|c| c.state.as_ref().is_some_and(|s| s.running.is_some()));
        Some(Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            process: Process {
                pod: pod.metadata.uid.clone().unwrap_or_default(),
                restarts: proxy.map_or(0, |c| c.restart_count),
            },
            address: super::health_socket(pod).filter(|_| runs),
        })
    }
}

/// What a proxy said last.
#[derive(Clone, Debug, Default)]
struct Known {
    asking: bool,
    said: Option<InForce>,
    /// How often it has not answered since.
    silent: u32,
}

/// What the proxies of an object said.
#[derive(Debug, Default)]
struct Object {
    /// The policy that is asked about.
    wanted: String,
    /// Counts the changes of `wanted`.
    change: u64,
    proxies: HashMap<Process, Known>,
    /// The policy that all of them run, and the resource version of the Deployment at that time.
    settled: Option<(String, String)>,
}

/// Asks proxies which policy they run, and remembers it.
pub struct Policies {
    health: Arc<Health>,
    permits: Arc<Semaphore>,
    objects: Arc<Mutex<HashMap<Key, Object>>>,
}

/// Whether the proxies of an object run a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForceSummary {
    /// How many proxies there are.
    pub total: usize,
    /// How many run the policy.
    pub in_force: usize,
    /// What is known of the others, the worst of it.
    pub state: State,
}

/// How far a policy has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// All proxies run it.
    Applied,
    /// Some will run it soon.
    Pending,
    /// It is not known yet: a proxy has not been asked before.
    Asking,
    /// A proxy does not answer.
    Unreachable {
        /// The pod.
        pod: String,
    },
    /// A proxy rejects it, and keeps the previous one.
    Rejected {
        /// The pod.
        pod: String,
        /// Why, in the proxy's words.
        reason: String,
    },
}

impl Policies {
    /// Asks with `health`.
    pub fn new(health: Arc<Health>) -> Self {
        Self {
            health,
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            objects: Arc::default(),
        }
    }

    /// Notes which policy the proxies should run. What they said before it was noted does not count: when a change is
    /// undone, they may have said that they run this policy before they loaded the other one.
    pub fn want(&self, owner: &Key, wanted: &str) {
        let mut objects = lock(&self.objects);
        let object = objects.entry(owner.clone()).or_default();
        if object.wanted != wanted {
            *object = Object {
                wanted: wanted.to_owned(),
                change: object.change + 1,
                ..Object::default()
            };
        }
    }

    /// Whether all proxies were seen to run the policy `wanted`, and nothing has happened to the Deployment since.
    pub fn is_settled(&self, owner: &Key, wanted: &str, version: &str) -> bool {
        let objects = lock(&self.objects);
        let settled = objects.get(owner).and_then(|o| o.settled.as_ref());
        settled.is_some_and(|(hash, at)| hash == wanted && at == version)
    }

    /// What is known of the proxies in `pods`. Those that are not known to run the policy `wanted` are asked, so that
    /// the next look knows more. `version` is the resource version of their Deployment.
    pub fn look(
        &self,
        owner: &Key,
        wanted: &str,
        version: &str,
        pods: &[ProxyPod],
    ) -> InForceSummary {
        let mut objects = lock(&self.objects);
        let object = objects.entry(owner.clone()).or_default();
        object
            .proxies
            .retain(|process, _| pods.iter().any(|p| p.process == *process));
        let summary = summarize(wanted, pods, &object.proxies);
        object.settled =
            (summary.state == State::Applied).then(|| (wanted.to_owned(), version.to_owned()));
        for pod in pods {
            let known = object.proxies.entry(pod.process.clone()).or_default();
            let (Some(address), false) = (pod.address, known.asking || known.runs(wanted)) else {
                continue;
            };
            known.asking = true;
            self.ask(owner.clone(), object.change, pod.process.clone(), address);
        }
        summary
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, owner: &Key) {
        lock(&self.objects).remove(owner);
    }

    fn ask(&self, owner: Key, change: u64, process: Process, address: SocketAddr) {
        let (health, permits) = (Arc::clone(&self.health), Arc::clone(&self.permits));
        let objects = Arc::clone(&self.objects);
        tokio::spawn(async move {
            let Ok(_permit) = permits.acquire().await else {
                return;
            };
            let said = health.configuration(address).await;
            let mut objects = lock(&objects);
            let known = objects
                .get_mut(&owner)
                .filter(|o| o.change == change)
                .and_then(|o| o.proxies.get_mut(&process));
            let Some(known) = known else { return };
            known.asking = false;
            match said {
                Some(said) => {
                    *known = Known {
                        said: Some(said),
                        ..Known::default()
                    }
                }
                None => known.silent = known.silent.saturating_add(1),
            }
        });
    }
}

impl Known {
    fn runs(&self, wanted: &str) -> bool {
        self.said.as_ref().is_some_and(|said| said.hash == wanted)
    }

    /// Why it rejects this policy.
    fn rejects(&self, wanted: &str) -> Option<&str> {
        let rejected = self.said.as_ref()?.rejected.as_ref()?;
        (rejected.hash.as_deref() == Some(wanted)).then_some(&*rejected.reason)
    }
}

fn summarize(wanted: &str, pods: &[ProxyPod], known: &HashMap<Process, Known>) -> InForceSummary {
    let nothing = Known::default();
    let known = |pod: &ProxyPod| known.get(&pod.process).unwrap_or(&nothing).clone();
    let others = || {
        pods.iter()
            .map(|pod| (pod, known(pod)))
            .filter(|(_, k)| !k.runs(wanted))
    };
    let in_force = pods.len() - others().count();
    let rejected = others().find_map(|(pod, known)| {
        let reason = known.rejects(wanted)?;
        Some(State::Rejected {
            pod: pod.name.clone(),
            reason: one_line(shorten(reason, 300)),
        })
    });
    let silent = || others().find(|(pod, known)| pod.address.is_some() && known.silent >= SILENT);
    let state = rejected
        .or_else(|| {
            silent().map(|(pod, _)| State::Unreachable {
                pod: pod.name.clone(),
            })
        })
        .unwrap_or_else(|| match others().next() {
            None if !pods.is_empty() => State::Applied,
            Some(_)
                if others().all(|(pod, known)| pod.address.is_some() && known.said.is_none()) =>
            {
                State::Asking
            }
            _ => State::Pending,
        });
    InForceSummary {
        total: pods.len(),
        in_force,
        state,
    }
}

fn lock(objects: &Mutex<HashMap<Key, Object>>) -> MutexGuard<'_, HashMap<Key, Object>> {
    objects.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use mcpauth_wire::proxy_health::Rejected;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, restarts: i32) -> ProxyPod {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": name, "uid": name },
            "spec": { "containers": [], "initContainers": [
                { "name": "resource-proxy", "ports": [{ "name": "health", "containerPort": 9090 }] },
            ]},
            "status": { "phase": "Running", "podIP": "10.0.0.7", "initContainerStatuses": [{
                "name": "resource-proxy", "image": "", "imageID": "", "ready": true, "restartCount": restarts,
                "state": { "running": {} },
            }]},
        }))
        .unwrap();
        ProxyPod::of(&pod, "resource-proxy").unwrap()
    }

    /// A pod whose health port is this one.
    fn pod_at(name: &str, address: SocketAddr) -> ProxyPod {
        ProxyPod {
            address: Some(address),
            ..pod(name, 0)
        }
    }

    /// Those that do not answer keep none of the others from being asked.
    #[tokio::test(flavor = "multi_thread")]
    async fn three_thousand_proxies_are_asked_although_one_in_ten_is_silent() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let answering = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = |at: usize| match at % 10 {
            0 => silent.local_addr().unwrap(),
            _ => answering.local_addr().unwrap(),
        };
        let pods: Vec<_> = (0..3000)
            .map(|at| pod_at(&format!("p{at}"), address(at)))
            .collect();
        let owner = ("ns".to_owned(), "notes".to_owned());
        let policies = Policies::new(Arc::default());
        policies.want(&owner, "new");
        policies.look(&owner, "new", "1", &pods);
        let body = r#"{"hash":"new"}"#;
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        for _ in 0..2700 {
            let (mut proxy, _) = answering.accept().await.unwrap();
            let _ = proxy.read(&mut [0; 1024]).await.unwrap();
            proxy.write_all(answer.as_bytes()).await.unwrap();
        }
        while policies.look(&owner, "new", "1", &pods).in_force < 2700 {
            tokio::task::yield_now().await;
        }
    }

    fn said(hash: &str) -> Known {
        let in_force = InForce {
            hash: hash.into(),
            rejected: None,
        };
        Known {
            said: Some(in_force),
            ..Known::default()
        }
    }

    fn summary(known: Vec<Option<Known>>) -> InForceSummary {
        let pods: Vec<_> = (0..known.len())
            .map(|at| pod(&format!("p{at}"), 0))
            .collect();
        let known = pods.iter().zip(known);
        let known = known.filter_map(|(pod, known)| Some((pod.process.clone(), known?)));
        summarize("new", &pods, &known.collect())
    }

    #[test]
    fn applied_only_when_every_proxy_said_so() {
        let state = |known| summary(known).state;
        assert_eq!(
            state(vec![Some(said("new")), Some(said("new"))]),
            State::Applied
        );
        assert_eq!(
            state(vec![Some(said("new")), Some(said("old"))]),
            State::Pending
        );
        assert_eq!(state(vec![Some(said("new")), None]), State::Asking);
        assert_eq!(state(vec![Some(said("old")), None]), State::Pending);
        assert_eq!(state(vec![]), State::Pending, "nothing enforces it");
        let counted = summary(vec![Some(said("new")), Some(said("old")), None]);
        assert_eq!((counted.total, counted.in_force), (3, 1));
    }

    #[test]
    fn a_proxy_that_rejects_the_policy_or_is_silent_is_named() {
        let mut rejecting = said("old");
        let reject = |hash: &str| Rejected {
            hash: Some(hash.into()),
            reason: "scopes: bad".into(),
        };
        rejecting.said.as_mut().unwrap().rejected = Some(reject("new"));
        let silent = |times| {
            Some(Known {
                silent: times,
                ..Known::default()
            })
        };
        let found = summary(vec![silent(9), Some(rejecting.clone())]).state;
        let expected = State::Rejected {
            pod: "p1".into(),
            reason: "scopes: bad".into(),
        };
        assert_eq!(found, expected);
        let mut hostile = reject("new");
        hostile.reason = "bad\u{1b}[2J\nReady".into();
        rejecting.said.as_mut().unwrap().rejected = Some(hostile);
        let State::Rejected { reason, .. } = summary(vec![Some(rejecting.clone())]).state else {
            panic!("not rejected");
        };
        assert_eq!(reason, "bad [2J Ready");
        rejecting.said.as_mut().unwrap().rejected = Some(reject("one before"));
        assert_eq!(summary(vec![Some(rejecting)]).state, State::Pending);

        let unreachable = State::Unreachable { pod: "p0".into() };
        assert_eq!(
            summary(vec![silent(2), Some(said("new"))]).state,
            unreachable
        );
        assert_eq!(summary(vec![silent(1)]).state, State::Asking);
    }

    #[test]
    fn what_was_said_before_a_change_was_undone_does_not_count() {
        let policies = Policies::new(Arc::default());
        let owner = ("team".to_owned(), "notes".to_owned());
        let mut pod = pod("p0", 0);
        pod.address = None;
        let pods = [pod];
        policies.want(&owner, "new");
        let mut objects = lock(&policies.objects);
        let object = objects.get_mut(&owner).unwrap();
        object.proxies.insert(pods[0].process.clone(), said("new"));
        drop(objects);
        let state = || policies.look(&owner, "new", "1", &pods).state;
        assert_eq!(state(), State::Applied);
        policies.want(&owner, "new");
        assert!(policies.is_settled(&owner, "new", "1"));

        policies.want(&owner, "other");
        policies.want(&owner, "new");
        assert!(!policies.is_settled(&owner, "new", "1"));
        assert_eq!(state(), State::Pending);
    }

    #[test]
    fn a_restarted_proxy_is_another_one_and_one_that_ends_is_none() {
        assert_ne!(pod("a", 0).process, pod("a", 1).process);
        let ending =
            json!({ "metadata": { "name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z" } });
        let ending: Pod = serde_json::from_value(ending).unwrap();
        assert_eq!(ProxyPod::of(&ending, "resource-proxy"), None);
        let new: Pod = serde_json::from_value(json!({ "metadata": { "name": "a" } })).unwrap();
        let new = ProxyPod::of(&new, "resource-proxy").unwrap();
        assert_eq!(new.address, None);
        assert_eq!(
            summarize("new", &[new], &HashMap::new()).state,
            State::Pending
        );
    }
}
