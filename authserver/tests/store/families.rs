//! Random histories of a family: requests that come together at two replicas, whose clocks are two seconds apart, and
//! some of which are killed at an await point or whose response is lost. Beside them goes a model: what came of the
//! requests must come of some order of them, with each of the killed ones done or not.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures::future::{join_all, poll_fn};
use mcp_authserver::issue::Minter;
use mcp_authserver::oauth::grant::Refusal;
use mcp_authserver::oauth::refresh::{RefreshAttempt, RefreshKind};
use mcp_authserver::oauth::token::{Token, TokenKind};
use mcp_authserver::store::Refresh;
use mcpauth_service::clock::UnixTime;

use crate::fixture::{CLIENT, Fixture, GRACE, IDLE, NOW, OTHER_CLIENT, REFRESH};

/// How far the second replica's clock is ahead.
const SKEW: Duration = Duration::from_secs(2);

/// A history ends when so many orders explain it: further ones would each be tried with all of them.
const MAX_WORLDS: usize = 50;

/// Numbers that are the same in every run (Knuth's MMIX generator, its upper half).
pub struct Lcg(pub u64);

impl Lcg {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What a family has been through, in words other than the implementation's: nothing is ever removed from it.
#[derive(Clone, PartialEq)]
struct World {
    alive: bool,
    time: UnixTime,
    tokens: BTreeMap<usize, History>,
}

/// The history of a refresh token.
#[derive(Clone, PartialEq)]
struct History {
    parent: Option<usize>,
    born: UnixTime,
    expires_at: UnixTime,
    used: Option<UnixTime>,
    void: Option<UnixTime>,
    forgotten: bool,
}

/// A request.
#[derive(Clone, Copy, Debug)]
enum Request {
    /// With this token, for one that gets this number.
    Refresh { with: usize, number: usize },
    /// Revocation of the family, by its first token.
    Revoke,
}

/// Why it was granted, and the time of the family that this was.
type Outcome = Result<(RefreshKind, UnixTime), Refusal>;

/// A request and what is known of it.
#[derive(Debug)]
struct Attempt {
    request: Request,
    now: UnixTime,
    /// None: killed, or nobody heard.
    heard: Option<Outcome>,
}

impl World {
    fn new(born: UnixTime, now: UnixTime) -> Self {
        let mut world = Self {
            alive: true,
            time: born,
            tokens: BTreeMap::new(),
        };
        world.issue(0, None, now);
        world
    }

    fn issue(&mut self, number: usize, parent: Option<usize>, now: UnixTime) {
        let history = History {
            parent,
            born: self.time,
            expires_at: now.plus(IDLE),
            used: None,
            void: None,
            forgotten: false,
        };
        self.tokens.insert(number, history);
    }

    fn knows(&self, number: usize) -> bool {
        self.alive
            && self
                .tokens
                .get(&number)
                .is_some_and(|token| !token.forgotten)
    }

    fn refresh(&mut self, with: usize, number: usize, now: UnixTime) -> Outcome {
        if !self.knows(with) {
            return Err(Refusal::Unknown);
        }
        let token = &self.tokens[&with];
        if now >= token.expires_at {
            return Err(Refusal::Expired);
        }
        let time = now.max(self.time.plus(Duration::from_millis(1)));
        let mut below = self
            .tokens
            .values()
            .filter(|other| other.parent == Some(with));
        let response_arrived = below.any(|other| other.used.is_some());
        let kind = match (token.void, token.used) {
            (None, None) => RefreshKind::Rotation,
            (None, Some(first)) if time.since(first) < GRACE => RefreshKind::Sibling,
            (None, Some(_)) if !response_arrived => RefreshKind::LostResponse,
            _ => {
                self.alive = false;
                return Err(Refusal::Reused);
            }
        };
        self.time = time;
        for (at, token) in &mut self.tokens {
            if *at == with {
                token.used.get_or_insert(time);
            }
            if kind == RefreshKind::LostResponse && (*at == with || token.parent == Some(with)) {
                token.void = Some(time);
            }
        }
        self.issue(number, Some(with), now);
        self.forget();
        Ok((kind, time))
    }

    /// All but the 64 newest unused tokens, and the 64 last used or within their grace period.
    fn forget(&mut self) {
        let time = self.time;
        let kept = self.tokens.values_mut().filter(|token| !token.forgotten);
        let (mut unused, mut used): (Vec<_>, Vec<_>) =
            kept.partition(|token| token.void.or(token.used).is_none());
        unused.sort_by_key(|token| token.born);
        used.sort_by_key(|token| (token.void.or(token.used), token.born));
        for token in unused.iter_mut().rev().skip(64) {
            token.forgotten = true;
        }
        for token in used.iter_mut().rev().skip(64) {
            let last = token.void.or(token.used).unwrap();
            token.forgotten = time.since(last) >= GRACE;
        }
    }

    /// The world after this attempt; none when what was heard of it contradicts this one.
    fn after(&self, attempt: &Attempt) -> Option<Self> {
        let mut world = self.clone();
        match attempt.request {
            Request::Revoke => world.alive &= !world.knows(0),
            Request::Refresh { with, number } => {
                let outcome = world.refresh(with, number, attempt.now);
                if attempt.heard.is_some_and(|heard| heard != outcome) {
                    return None;
                }
            }
        }
        Some(world)
    }
}

/// All worlds to which some order of these attempts leads, each of the unheard ones done or not.
fn possible(world: &World, attempts: &[&Attempt]) -> Vec<World> {
    if attempts.is_empty() {
        return vec![world.clone()];
    }
    let mut worlds = vec![];
    for at in 0..attempts.len() {
        let mut rest = attempts.to_vec();
        let first = rest.remove(at);
        if let Some(after) = world.after(first) {
            worlds.extend(possible(&after, &rest));
        }
        if first.heard.is_none() {
            worlds.extend(possible(world, &rest));
        }
    }
    worlds
}

/// What the stores know, by number.
struct Family<'a> {
    replicas: [&'a Fixture; 2],
    issued: Vec<(Token, Token)>,
}

impl Family<'_> {
    /// A number for the tokens of a request, whose randomness is known in advance, so that it can be seen whether a killed
    /// request has issued them.
    fn reserve(&mut self) -> (usize, [u8; 32]) {
        let random = self.replicas[0].random();
        let access = Token::generate(TokenKind::Access, random);
        let refresh = Token::generate(TokenKind::Refresh, random);
        self.issued.push((access, refresh));
        (self.issued.len() - 1, random)
    }

    /// Waits for what a killed request has left under way: it holds the lock on the grant.
    async fn settle(&self) {
        let nothing = RefreshAttempt {
            client_id: OTHER_CLIENT,
            ..REFRESH
        };
        for (_, refresh) in self.issued.iter().rev() {
            let refused = self.replicas[0].refresh_as(refresh, nothing, NOW).await;
            if refused.err() != Some(Refusal::Unknown) {
                return;
            }
        }
    }

    /// Which refresh tokens are known.
    async fn observe(&self) -> Vec<bool> {
        let f = self.replicas[0];
        let mut known = vec![];
        for (_, refresh) in &self.issued {
            let hashes = refresh.hashes(&f.pepper);
            known.push(f.store.grant_of(&hashes, NOW).await.unwrap().is_some());
        }
        known
    }
}

/// Runs a request; `None` when it is killed at the await point with this number.
pub async fn killed_at<F: Future>(request: F, await_point: usize) -> Option<F::Output> {
    let mut request = pin!(request);
    let mut passed = 0;
    poll_fn(|context| match request.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if passed == await_point => Poll::Ready(None),
        Poll::Pending => {
            passed += 1;
            Poll::Pending
        }
    })
    .await
}

pub async fn each_history_is_one_that_the_rule_allows(f: &Fixture) {
    // On PostgreSQL another replica; in memory there is only one.
    let second = match &f.url {
        Some(url) => Some(Fixture::at(url).await),
        None => None,
    };
    let replicas = [f, second.as_ref().unwrap_or(f)];
    let mut seen = BTreeMap::new();
    for seed in 0..16 {
        run(replicas, Lcg(seed), &mut seen).await;
    }
    for expected in [
        "Rotation",
        "Sibling",
        "LostResponse",
        "Reused",
        "Unknown",
        "unheard",
    ] {
        let times = seen.get(expected).copied().unwrap_or_default();
        assert!(times >= 2, "{expected}: {times} times, {seen:?}");
    }
}

async fn run(replicas: [&Fixture; 2], mut random: Lcg, seen: &mut BTreeMap<String, usize>) {
    let mut now = NOW;
    let first = replicas[0].family(now).await;
    let mut worlds = vec![World::new(first.issued.grant.changed_at, now)];
    let mut family = Family {
        replicas,
        issued: vec![(first.access, first.refresh)],
    };
    for _ in 0..20 {
        now = now.plus(match random.below(4) {
            0 | 1 => GRACE + SKEW,
            _ => Duration::from_millis(random.below(25_000)),
        });
        // Now and then so many that the family cannot keep all tokens.
        let with = pick(&family, &mut random);
        let (rounds, with) = match random.below(24) {
            0 => (70, Some(with)),
            _ => (1, None),
        };
        for _ in 0..rounds {
            let attempts = together(&mut family, &mut random, with, now).await;
            for attempt in &attempts {
                let heard = attempt.heard.map(|heard| match heard {
                    Ok((kind, _)) => format!("{kind:?}"),
                    Err(refusal) => format!("{refusal:?}"),
                });
                *seen.entry(heard.unwrap_or("unheard".into())).or_default() += 1;
            }
            worlds = after(&worlds, &attempts);
        }
        family.settle().await;
        let known = family.observe().await;
        let all = worlds.len();
        worlds.retain(|world| (0..known.len()).all(|at| world.knows(at) == known[at]));
        assert!(
            !worlds.is_empty(),
            "none of {all} worlds has these tokens: {known:?}"
        );
        check_access(&family, &worlds, now).await;
        if worlds.len() > MAX_WORLDS {
            return;
        }
    }
}

fn after(worlds: &[World], attempts: &[Attempt]) -> Vec<World> {
    let references: Vec<_> = attempts.iter().collect();
    let mut after: Vec<World> = vec![];
    for world in worlds.iter().flat_map(|world| possible(world, &references)) {
        if !after.contains(&world) {
            after.push(world);
        }
    }
    assert!(!after.is_empty(), "no order allows {attempts:?}");
    after
}

/// Up to three requests that come together; or one, with this token, that is not killed.
async fn together(
    family: &mut Family<'_>,
    random: &mut Lcg,
    with: Option<usize>,
    now: UnixTime,
) -> Vec<Attempt> {
    let count = match with {
        Some(_) => 1,
        None => 1 + random.below(3),
    };
    let mut prepared = vec![];
    for _ in 0..count {
        let picked = pick(family, random);
        let (number, bytes) = family.reserve();
        let request = match random.below(150) {
            0 => Request::Revoke,
            _ => Request::Refresh {
                with: with.unwrap_or(picked),
                number,
            },
        };
        let at = usize::try_from(random.below(2)).unwrap();
        let kill = match random.below(3) {
            0 if with.is_none() => usize::try_from(random.below(16)).unwrap(),
            _ => usize::MAX,
        };
        prepared.push((request, at, bytes, kill));
    }
    let family = &*family;
    join_all(
        prepared
            .into_iter()
            .map(|(request, at, bytes, kill)| async move {
                let now = now.plus(SKEW * u32::try_from(at).unwrap());
                let heard = send(family, request, at, bytes, kill, now).await;
                Attempt {
                    request,
                    now,
                    heard,
                }
            }),
    )
    .await
}

async fn send(
    family: &Family<'_>,
    request: Request,
    replica: usize,
    bytes: [u8; 32],
    kill: usize,
    now: UnixTime,
) -> Option<Outcome> {
    let f = family.replicas[replica];
    let random = move || Ok(bytes);
    match request {
        Request::Refresh { with, .. } => {
            let refresh = Refresh {
                hashes: &family.issued[with].1.hashes(&f.pepper),
                attempt: REFRESH,
                minter: Minter {
                    random: &random,
                    ..f.minter()
                },
            };
            let outcome = killed_at(f.store.refresh(&refresh, now), kill).await?;
            // In memory nothing waits: there it is the response that is lost.
            let heard = f.url.is_some() || kill == usize::MAX;
            let outcome = outcome.unwrap();
            let outcome = outcome.map(|one| (one.kind, one.issued.grant.changed_at));
            heard.then_some(outcome)
        }
        Request::Revoke => {
            let hashes = family.issued[0].1.hashes(&f.pepper);
            let revoke = f.store.revoke_refresh_token(&hashes, CLIENT);
            killed_at(revoke, kill).await?.unwrap();
            None
        }
    }
}

/// Likely one of the newest, but any now and then.
fn pick(family: &Family<'_>, random: &mut Lcg) -> usize {
    let count = family.issued.len();
    let newest = random.below(10) < 7;
    let among = if newest { count.min(4) } else { count };
    let back = random.below(u64::try_from(among).unwrap());
    count - 1 - usize::try_from(back).unwrap()
}

async fn check_access(family: &Family<'_>, worlds: &[World], now: UnixTime) {
    let f = family.replicas[0];
    for (number, (access, _)) in family.issued.iter().enumerate() {
        let active = f.is_active(access, now).await;
        let expected = worlds.iter().any(|world| {
            let token = world.tokens.get(&number);
            let lives =
                |token: &History| now < token.expires_at.minus(IDLE - crate::fixture::ACCESS);
            world.alive && token.is_some_and(lives)
        });
        assert_eq!(active, expected, "token {number}");
    }
}
