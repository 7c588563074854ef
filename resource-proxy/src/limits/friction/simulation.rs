//! The properties of friction, over simulated time: clients whose workers call, wait, are served, think
//! and call again.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::{Caller, Counted, Decision, Friction, FrictionConfig, Group, Level, Per, Rate};

const SECOND: u64 = 1_000_000;

/// Seeded: the same numbers in every run.
struct Random(u64);

impl Random {
    /// In 0..1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Of an exponential distribution, in microseconds.
    fn around(&mut self, mean: f64) -> u64 {
        (-mean * (1.0 - self.next()).ln() * SECOND as f64) as u64
    }
}

/// A closed loop: each worker waits for its answer before it calls again.
#[derive(Clone)]
pub(super) struct Client {
    id: &'static str,
    subject: &'static str,
    /// Called in turn.
    tools: &'static [&'static str],
    workers: usize,
    /// Means, in seconds.
    service: f64,
    think: f64,
    /// Calls only from and until then, in seconds.
    from: u64,
    until: u64,
    /// Every call under a client id of its own.
    fresh: bool,
}

impl Client {
    pub(super) fn new(id: &'static str, workers: usize) -> Self {
        Self {
            id,
            subject: id,
            tools: &["read_note"],
            workers,
            service: 0.02,
            think: 0.0,
            from: 0,
            until: u64::MAX / SECOND,
            fresh: false,
        }
    }
}

/// A call that was admitted: when it came and when it went upstream, in microseconds.
pub(super) struct Call {
    client: usize,
    came: u64,
    decision: Decision,
}

impl Call {
    pub(super) fn went(&self) -> u64 {
        self.came + self.decision.delay.as_micros() as u64
    }
}

/// Runs `clients` for so many seconds. No call is ever refused: each that came is in the result. The server
/// answers all of them without an error.
pub(super) fn run(friction: &mut Friction, clients: &[Client], seconds: u64) -> Vec<Call> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    // When, of which client, and the call that is answered then; none: the next call.
    let mut events = BinaryHeap::new();
    for (index, client) in clients.iter().enumerate() {
        for _ in 0..client.workers {
            let start = client.from * SECOND + random.around(client.think + 0.05);
            events.push(Reverse((start, index, None)));
        }
    }
    let mut calls: Vec<Call> = Vec::new();
    let mut turns = vec![0; clients.len()];
    while let Some(Reverse((now, index, answered))) = events.pop() {
        if now >= seconds * SECOND {
            break;
        }
        let client = &clients[index];
        if let Some(call) = answered {
            let call: &Call = &calls[call];
            friction.succeeded(&call.decision.receipt, Duration::from_micros(now));
            friction.proved(&call.decision.receipt, Duration::from_micros(now));
            let next = now + random.around(client.think).max(1);
            events.push(Reverse((next, index, None)));
            continue;
        }
        if now >= client.until * SECOND {
            continue;
        }
        let fresh = format!("{}-{}", client.id, calls.len());
        let client_id = if client.fresh { &fresh } else { client.id };
        let caller = Caller {
            client_id,
            subject: client.subject,
        };
        let tool = client.tools[turns[index] % client.tools.len()];
        turns[index] += 1;
        let decision = friction.admit(&caller, Counted::Tool(tool), Duration::from_micros(now));
        let call = Call {
            client: index,
            came: now,
            decision,
        };
        let end = call.went() + random.around(client.service);
        events.push(Reverse((end, index, Some(calls.len()))));
        calls.push(call);
    }
    calls
}

/// Calls a second that a client got through between two times, in seconds.
fn rate(calls: &[Call], client: usize, from: u64, until: u64) -> f64 {
    let span = from * SECOND..until * SECOND;
    let passed = calls
        .iter()
        .filter(|c| c.client == client && span.contains(&c.went()))
        .count();
    passed as f64 / (until - from) as f64
}

fn longest_delay(calls: &[Call], client: usize) -> Duration {
    calls
        .iter()
        .filter(|c| c.client == client)
        .map(|c| c.decision.delay)
        .max()
        .unwrap_or_default()
}

pub(super) fn a_minute(calls: u32) -> Rate {
    Rate {
        calls,
        period_seconds: 60,
    }
}

/// One call a second, delays up to two minutes.
pub(super) fn config() -> FrictionConfig {
    FrictionConfig {
        per: Per::Subject,
        rate: a_minute(60),
        share: None,
        groups: vec![],
        subject_rate: None,
        resource_rate: None,
        half_life_seconds: 30,
        max_delay_milliseconds: 120_000,
        warmup_calls: 10,
        hard_limit: None,
    }
}

fn friction() -> Friction {
    Friction::new(&config())
}

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

const ANN: Caller<'static> = Caller {
    client_id: "cli",
    subject: "ann",
};

const TOOL: Counted<'static> = Counted::Tool("t");

/// So many calls at once; the last decision.
fn burst(friction: &mut Friction, tool: &str, calls: usize, now: f64) -> Decision {
    for _ in 1..calls {
        friction.admit(&ANN, Counted::Tool(tool), at(now));
    }
    friction.admit(&ANN, Counted::Tool(tool), at(now))
}

#[test]
fn below_target_there_is_no_delay_at_all() {
    for workers in [1, 2, 8, 64] {
        // Random arrivals at half the target; regular ones at the very target.
        let think = 2.0 * workers as f64;
        let client = Client {
            think,
            ..Client::new("a", workers)
        };
        let calls = run(&mut friction(), &[client], 50_000);
        assert!(rate(&calls, 0, 0, 50_000) > 0.45);
        assert_eq!(
            longest_delay(&calls, 0),
            Duration::ZERO,
            "{workers} workers"
        );
    }
    let mut friction = friction();
    let delayed = (0..10_000).find(|n| {
        !friction
            .admit(&ANN, TOOL, at(f64::from(*n)))
            .delay
            .is_zero()
    });
    assert_eq!(delayed, None);
}

#[test]
fn a_closed_loop_settles_at_its_target_with_any_number_of_workers() {
    for workers in [1, 2, 8, 64] {
        for (service, think) in [(0.001, 0.0), (0.3, 0.0), (0.02, 0.5)] {
            for half_life_seconds in [1, 5, 30, 300] {
                let mut friction = Friction::new(&FrictionConfig {
                    half_life_seconds,
                    ..config()
                });
                let client = Client {
                    service,
                    think,
                    ..Client::new("a", workers)
                };
                let calls = run(&mut friction, &[client], 6000);
                for from in (3000..6000).step_by(600) {
                    let rate = rate(&calls, 0, from, from + 600);
                    assert!(
                        (0.9..=1.1).contains(&rate),
                        "{workers} workers, {service} s, {think} s, half-life {half_life_seconds} s: {rate}"
                    );
                }
                let last = calls.last().unwrap().decision;
                // A half-life of few calls is a noisy average.
                let near = half_life_seconds < 30 || (0.9..=1.1).contains(&last.observed);
                assert!(near, "observed {}", last.observed);
            }
        }
    }
}

#[test]
fn fast_and_slow_targets_settle_too() {
    for (calls, period_seconds) in [(100, 1), (1, 60), (5, 1)] {
        let rate_wanted = Rate {
            calls,
            period_seconds,
        };
        let mut friction = Friction::new(&FrictionConfig {
            rate: rate_wanted,
            ..config()
        });
        let client = Client {
            service: 0.001,
            ..Client::new("a", 2)
        };
        let seconds = 10_000 * u64::from(period_seconds) / u64::from(calls);
        let calls = run(&mut friction, &[client], 2 * seconds);
        let got = rate(&calls, 0, seconds, 2 * seconds) / rate_wanted.per_second();
        assert!((0.9..=1.1).contains(&got), "{got} of {rate_wanted:?}");
    }
}

#[test]
fn the_delay_never_exceeds_its_bound_and_the_client_settles_there() {
    let mut friction = Friction::new(&FrictionConfig {
        max_delay_milliseconds: 30_000,
        ..config()
    });
    let calls = run(&mut friction, &[Client::new("a", 64)], 3000);
    assert!(longest_delay(&calls, 0) <= Duration::from_secs(30));
    let rate = rate(&calls, 0, 1000, 3000);
    assert!(
        (2.1..=2.2).contains(&rate),
        "64 workers with 30 s each: {rate}"
    );
}

#[test]
fn one_principal_never_slows_another() {
    let good = Client {
        think: 2.0,
        ..Client::new("good", 1)
    };
    let same_subject = Client {
        subject: "bad",
        ..good.clone()
    };
    let same_client = Client {
        id: "bad",
        subject: "carl",
        ..good.clone()
    };
    let bad = Client::new("bad", 64);
    let clients = [bad, good, same_client, same_subject];
    // Under the default, a client of the same subject is the same principal.
    for (per, others) in [(Per::Subject, 1..3), (Per::ClientAndSubject, 1..4)] {
        let mut friction = Friction::new(&FrictionConfig { per, ..config() });
        let calls = run(&mut friction, &clients, 10_000);
        for client in others {
            assert_eq!(
                longest_delay(&calls, client),
                Duration::ZERO,
                "{per:?}, client {client}"
            );
        }
    }
}

#[test]
fn more_client_ids_are_no_way_out() {
    let client = Client {
        fresh: true,
        ..Client::new("a", 64)
    };
    let calls = run(&mut friction(), &[client], 3000);
    let rate = rate(&calls, 0, 1000, 3000);
    assert!((0.9..=1.1).contains(&rate), "{rate}");
}

#[test]
fn invented_tool_names_are_no_way_out() {
    let mut friction = friction();
    let mut went = 0;
    let mut waiting = BinaryHeap::from_iter((0..16).map(|_| Reverse(0)));
    for n in 0..40_000_u32 {
        let Some(Reverse(now)) = waiting.pop() else {
            break;
        };
        let tool = format!("tool-{n}");
        // The server knows none of them: no call succeeds.
        let decision = friction.admit(&ANN, Counted::Tool(&tool), Duration::from_micros(now));
        let end = now + decision.delay.as_micros() as u64 + 10_000;
        went += u32::from((1000 * SECOND..4000 * SECOND).contains(&end));
        waiting.push(Reverse(end));
    }
    let rate = f64::from(went) / 3000.0;
    assert!((0.9..=1.1).contains(&rate), "{rate}");
}

#[test]
fn the_first_calls_of_many_tools_do_not_slow_each_other() {
    let mut friction = Friction::new(&FrictionConfig {
        rate: a_minute(1),
        warmup_calls: 0,
        ..config()
    });
    let tools: Vec<String> = (0..30).map(|n| format!("tool-{n}")).collect();
    let mut call = |tool: &str, now: f64| {
        let decision = friction.admit(&ANN, Counted::Tool(tool), at(now));
        friction.proved(&decision.receipt, at(now));
        decision.delay
    };
    for (n, tool) in tools.iter().enumerate() {
        assert_eq!(call(tool, 0.1 * n as f64), Duration::ZERO, "{tool}");
    }
    // They were counted, each by itself.
    for tool in &tools {
        let delay = call(tool, 4.0).as_secs_f64();
        assert!((30.0..60.0).contains(&delay), "{tool}: {delay}");
    }
}

#[test]
fn batches_are_no_way_out() {
    // Four workers that send batches of 25 and wait for the longest delay.
    let mut friction = friction();
    let mut went = 0;
    let mut waiting = BinaryHeap::from_iter((0..4).map(|_| Reverse(0)));
    while let Some(Reverse(now)) = waiting.pop() {
        if now > 4000 * SECOND {
            break;
        }
        let decisions = (0..25).map(|_| friction.admit(&ANN, TOOL, Duration::from_micros(now)));
        let delay = decisions.map(|d| d.delay).max().unwrap();
        let end = now + delay.as_micros() as u64 + 10_000;
        went += 25 * u32::from((1000 * SECOND..4000 * SECOND).contains(&end));
        waiting.push(Reverse(end));
    }
    let rate = f64::from(went) / 3000.0;
    assert!((0.9..=1.1).contains(&rate), "{rate}");
}

#[test]
fn other_methods_have_targets_of_their_own() {
    let mut friction = friction();
    burst(&mut friction, "t", 100, 0.0);
    for method in ["resources/read", "prompts/get"] {
        let counted = Counted::Method(method);
        let first = friction.admit(&ANN, counted, at(0.0));
        assert_eq!(first.delay, Duration::ZERO, "{method}");
        let last = (0..100)
            .map(|_| friction.admit(&ANN, counted, at(0.0)))
            .last();
        assert!(last.unwrap().delay > at(30.0), "{method}");
    }
}

#[test]
fn one_tool_does_not_slow_another() {
    let bad = Client::new("a", 8);
    let good = Client {
        tools: &["list_notes"],
        think: 2.0,
        ..Client::new("a", 1)
    };
    let calls = run(&mut friction(), &[bad, good], 5000);
    assert_eq!(longest_delay(&calls, 1), Duration::ZERO);
}

#[test]
fn fresh_client_ids_do_not_escape_the_subjects_target() {
    let mut friction = Friction::new(&FrictionConfig {
        per: Per::ClientAndSubject,
        subject_rate: Some(a_minute(120)),
        ..config()
    });
    let bad = Client {
        fresh: true,
        ..Client::new("bad", 8)
    };
    let good = Client {
        think: 1.5,
        ..Client::new("good", 1)
    };
    let calls = run(&mut friction, &[bad, good], 5000);
    let rate = rate(&calls, 0, 1000, 5000);
    assert!((1.8..=2.2).contains(&rate), "{rate}");
    assert_eq!(
        calls
            .iter()
            .rfind(|c| c.client == 0)
            .unwrap()
            .decision
            .level,
        Level::Subject
    );
    assert_eq!(longest_delay(&calls, 1), Duration::ZERO);
}

#[test]
fn fresh_subjects_do_not_escape_the_resources_target() {
    let mut friction = Friction::new(&FrictionConfig {
        resource_rate: Some(a_minute(300)),
        ..config()
    });
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let clients = names.map(|name| Client {
        fresh: true,
        ..Client::new(name, 4)
    });
    let calls = run(&mut friction, &clients, 5000);
    let all: f64 = (0..8).map(|client| rate(&calls, client, 1000, 5000)).sum();
    assert!((4.5..=5.5).contains(&all), "{all}");
    assert_eq!(calls.last().unwrap().decision.level, Level::Resource);
}

#[test]
fn a_quiet_subject_does_not_wait_for_a_loud_one() {
    let loud = Client::new("loud", 64);
    let quiet = Client {
        think: 3.0,
        ..Client::new("quiet", 1)
    };
    for half_life_seconds in [5, 30, 300] {
        // Only the shared target binds.
        let mut friction = Friction::new(&FrictionConfig {
            rate: a_minute(6000),
            resource_rate: Some(a_minute(300)),
            half_life_seconds,
            ..config()
        });
        let calls = run(&mut friction, &[loud.clone(), quiet.clone()], 10_000);
        let all = rate(&calls, 0, 5000, 10_000) + rate(&calls, 1, 5000, 10_000);
        assert!((4.5..=5.5).contains(&all), "{all}");
        assert_eq!(longest_delay(&calls, 1), Duration::ZERO);
    }
}

#[test]
fn loud_subjects_share_what_the_quiet_ones_leave() {
    let mut friction = Friction::new(&FrictionConfig {
        rate: a_minute(6000),
        resource_rate: Some(a_minute(600)),
        ..config()
    });
    let names = ["a", "b", "c", "d", "e"];
    let mut clients: Vec<_> = (0..4)
        .map(|n| Client::new(names[n], [1, 4, 16, 64][n]))
        .collect();
    // Half a call a second each: less than a fifth of the target.
    for subject in ["q", "r", "s", "t"] {
        clients.push(Client {
            think: 2.0,
            ..Client::new(subject, 1)
        });
    }
    let calls = run(&mut friction, &clients, 10_000);
    let rates: Vec<f64> = (0..8).map(|n| rate(&calls, n, 5000, 10_000)).collect();
    let all: f64 = rates.iter().sum();
    assert!((9.0..=11.0).contains(&all), "{rates:?}");
    for (n, rate) in rates[..4].iter().enumerate() {
        assert!((1.8..=2.3).contains(rate), "{n}: {rates:?}");
    }
    for quiet in 4..8 {
        assert_eq!(longest_delay(&calls, quiet), Duration::ZERO);
    }
    assert!(friction.shared.active() <= 8);
}

#[test]
fn a_subject_that_leaves_makes_room_for_the_others() {
    let mut friction = Friction::new(&FrictionConfig {
        rate: a_minute(6000),
        resource_rate: Some(a_minute(600)),
        ..config()
    });
    let guest = Client {
        until: 2000,
        ..Client::new("guest", 16)
    };
    let calls = run(&mut friction, &[Client::new("a", 16), guest], 4000);
    let (with, without) = (rate(&calls, 0, 1000, 2000), rate(&calls, 0, 2200, 4000));
    assert!((4.5..=5.6).contains(&with), "{with}");
    assert!((9.0..=11.0).contains(&without), "{without}");
}

/// Only the shared target of a call a second binds, and delays are at most half a minute.
fn only_shared() -> Friction {
    Friction::new(&FrictionConfig {
        rate: a_minute(6000),
        resource_rate: Some(a_minute(60)),
        max_delay_milliseconds: 30_000,
        ..config()
    })
}

#[test]
fn a_burst_below_the_shared_target_is_free() {
    let mut friction = only_shared();
    assert_eq!(burst(&mut friction, "t", 42, 0.0).delay, Duration::ZERO);
    // Above it, what a subject may have in a half-life is still free.
    assert_eq!(burst(&mut friction, "t", 20, 0.0).delay, Duration::ZERO);
    assert!(burst(&mut friction, "t", 20, 0.0).delay > Duration::ZERO);
}

#[test]
fn the_debt_to_others_is_bounded() {
    let mut friction = only_shared();
    let last = burst(&mut friction, "t", 1000, 0.0);
    assert_eq!(last.delay, Duration::from_secs(30));
    let bob = Caller {
        client_id: "cli",
        subject: "bob",
    };
    for _ in 0..200 {
        friction.admit(&bob, TOOL, at(20.0));
    }
    let back = burst(&mut friction, "t", 1, 40.0);
    assert_eq!((back.level, back.delay), (Level::Resource, Duration::ZERO));
    assert!(
        back.observed > 2.0,
        "the target is exceeded: {}",
        back.observed
    );
}

#[test]
fn a_slow_tool_alone_settles_at_its_rate_too() {
    for workers in [1, 2, 4] {
        let mut friction = Friction::new(&FrictionConfig {
            rate: a_minute(1),
            share: Some(0.9),
            subject_rate: Some(a_minute(2400)),
            max_delay_milliseconds: 300_000,
            ..config()
        });
        let mut client = Client::new("a", workers);
        client.think = if workers > 1 { 60.0 } else { 0.0 };
        let rate = rate(&run(&mut friction, &[client], 200_000), 0, 50_000, 200_000);
        assert!((0.9..=1.1).contains(&(rate * 60.0)), "{workers}: {rate}");
    }
}

/// One call a second, or a part of the subject's volume, up to 40 calls a second.
fn shared(share: f64) -> Friction {
    Friction::new(&FrictionConfig {
        share: Some(share),
        subject_rate: Some(a_minute(2400)),
        ..config()
    })
}

#[test]
fn a_tool_alone_settles_at_its_rate() {
    for share in [0.05, 0.2, 0.5, 0.9] {
        for workers in [1, 8, 64] {
            let calls = run(&mut shared(share), &[Client::new("a", workers)], 6000);
            let rate = rate(&calls, 0, 4000, 6000);
            assert!((0.9..=1.1).contains(&rate), "{share}, {workers}: {rate}");
        }
    }
}

#[test]
fn a_tool_beside_others_settles_at_its_share() {
    const OTHERS: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    for (share, y) in [(0.05, 8.0), (0.2, 2.0), (0.2, 8.0), (0.5, 8.0), (0.7, 8.0)] {
        for workers in [1, 8, 64] {
            let one = Client::new("ann", workers);
            // Twelve other tools, each below its own rate.
            let others = Client {
                tools: &OTHERS,
                workers: 100,
                think: 100.0 / y,
                ..one.clone()
            };
            let calls = run(&mut shared(share), &[one, others], 8000);
            let others = rate(&calls, 1, 4000, 8000);
            assert!((0.95..=1.05).contains(&(others / y)), "{others}");
            let wanted = f64::max(1.0, others * share / (1.0 - share));
            let got = rate(&calls, 0, 4000, 8000) / wanted;
            assert!(
                (0.9..=1.1).contains(&got),
                "{share}, {y}, {workers}: {got} of {wanted}"
            );
        }
    }
}

#[test]
fn ten_tools_in_turn_settle_at_the_subjects_rate() {
    const TEN: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    for workers in [1, 8, 64] {
        let client = Client {
            tools: &TEN,
            ..Client::new("a", workers)
        };
        let calls = run(&mut shared(0.2), &[client], 6000);
        let rate = rate(&calls, 0, 4000, 6000);
        assert!((36.0..=44.0).contains(&rate), "{workers}: {rate}");
    }
}

#[test]
fn calls_that_fail_are_no_volume() {
    let mut friction = shared(0.5);
    // A hundred tools fail, ten times a second in all; one goes well.
    let (mut now, mut went) = (0.0, 0);
    let mut next_failure = 0.0;
    for n in 0_u32.. {
        while next_failure <= now {
            let name = format!("fails-{}", n % 100);
            friction.admit(&ANN, Counted::Tool(&name), at(next_failure));
            next_failure += 0.1;
        }
        let decision = friction.admit(&ANN, TOOL, at(now));
        now += decision.delay.as_secs_f64() + 0.05;
        friction.succeeded(&decision.receipt, at(now));
        friction.proved(&decision.receipt, at(now));
        went += u32::from(now > 1000.0);
        if now > 4000.0 {
            break;
        }
    }
    let rate = f64::from(went) / 3000.0;
    assert!((0.9..=1.1).contains(&rate), "{rate}");
}

#[test]
fn calls_that_wait_for_one_target_do_not_use_up_another() {
    // 64 calls wait for their tool, for long after they came; the subject's target is far away.
    let mut friction = Friction::new(&FrictionConfig {
        subject_rate: Some(a_minute(240)),
        half_life_seconds: 2,
        ..config()
    });
    let bad = Client {
        subject: "ann",
        ..Client::new("bad", 64)
    };
    let good = Client {
        subject: "ann",
        tools: &["list_notes"],
        think: 30.0,
        from: 120,
        ..Client::new("good", 1)
    };
    let calls = run(&mut friction, &[bad, good], 5000);
    assert_eq!(longest_delay(&calls, 1), Duration::ZERO);
}

#[test]
fn seventeen_reads_per_delete_do_not_hide_the_deletes() {
    let config = FrictionConfig {
        groups: vec![Group {
            name: "d".into(),
            tools: vec!["delete_*".into()],
            rate: a_minute(30),
            share: None,
        }],
        rate: a_minute(6000),
        ..config()
    };
    let mut friction = Friction::new(&config);
    let (mut now, mut deletes) = (0.0, 0);
    while now < 2000.0 {
        for _ in 0..17 {
            let read = friction.admit(&ANN, Counted::Tool("read_note"), at(now));
            now += read.delay.as_secs_f64();
        }
        now += friction
            .admit(&ANN, Counted::Tool("delete_note"), at(now))
            .delay
            .as_secs_f64()
            + 0.02;
        deletes += i32::from(now > 1000.0);
    }
    let rate = f64::from(deletes) / 1000.0;
    assert!((0.45..=0.55).contains(&rate), "{rate}");
}

#[test]
fn a_group_shares_one_target() {
    let group = Group {
        name: "w".into(),
        tools: vec!["create_*".into(), "x".into()],
        rate: a_minute(30),
        share: None,
    };
    let mut friction = Friction::new(&FrictionConfig {
        groups: vec![group],
        ..config()
    });
    let create = Client {
        tools: &["create_note"],
        ..Client::new("a", 4)
    };
    let x = Client {
        tools: &["x"],
        ..create.clone()
    };
    let read = Client {
        think: 2.0,
        ..Client::new("a", 1)
    };
    let calls = run(&mut friction, &[create, x, read], 3000);
    let both = rate(&calls, 0, 1000, 3000) + rate(&calls, 1, 1000, 3000);
    assert!((0.45..=0.55).contains(&both), "{both}");
    assert_eq!(longest_delay(&calls, 2), Duration::ZERO);
}

#[test]
fn the_only_tool_that_is_called_does_not_stay_slowed() {
    let mut friction = friction();
    assert!(burst(&mut friction, "t", 200, 0.0).delay > Duration::from_secs(60));
    // Going on at the target, with the same tool only, the delay goes.
    let last = (0..2000)
        .map(|n| friction.admit(&ANN, TOOL, at(200.0 + f64::from(n))))
        .last();
    assert_eq!(last.unwrap().delay, Duration::ZERO);
}

#[test]
fn idle_time_heals_with_the_half_life() {
    let free = |idle: f64| {
        let mut friction = friction();
        let wait = burst(&mut friction, "t", 500, 0.0).delay.as_secs_f64();
        // When all that waited went, the average is at its limit; then it falls by half in 30 s.
        let now = wait + idle;
        (0..500)
            .position(|_| !friction.admit(&ANN, TOOL, at(now)).delay.is_zero())
            .unwrap()
    };
    let whole = free(3600.0);
    assert!(
        (40..50).contains(&whole),
        "{whole}: a burst of a half-life's calls, over ln 2"
    );
    assert!(
        free(30.0).abs_diff(whole / 2) <= 1,
        "{} of {whole}",
        free(30.0)
    );
    assert!(free(60.0).abs_diff(whole * 3 / 4) <= 1);
    assert_eq!(free(0.0), 0);
}

#[test]
fn a_burst_after_long_idling_is_free_up_to_the_average_and_then_paced() {
    let mut friction = friction();
    let calls = [Client {
        from: 100_000,
        ..Client::new("a", 64)
    }];
    let calls = run(&mut friction, &calls, 101_000);
    let free = calls
        .iter()
        .take_while(|c| c.decision.delay.is_zero())
        .count();
    assert!((40..50).contains(&free), "{free}");
    let rate = rate(&calls, 0, 100_001, 101_000);
    assert!((0.9..=1.1).contains(&rate), "no second burst: {rate}");
}

#[test]
fn the_warm_up_is_without_friction() {
    let slow = FrictionConfig {
        rate: a_minute(1),
        half_life_seconds: 1,
        ..config()
    };
    let mut friction = Friction::new(&slow);
    assert_eq!(burst(&mut friction, "t", 10, 0.0).delay, Duration::ZERO);
    assert!(burst(&mut friction, "t", 1, 0.0).delay > Duration::from_secs(50));
    let mut friction = Friction::new(&FrictionConfig {
        warmup_calls: 0,
        ..slow
    });
    assert!(burst(&mut friction, "t", 2, 0.0).delay > Duration::from_secs(50));
}

#[test]
fn the_dead_zone_bears_jitter_at_the_target() {
    let mut friction = friction();
    let mut random = Random(7);
    for n in 0..20_000 {
        let now = f64::from(n) + random.next();
        assert_eq!(
            friction.admit(&ANN, TOOL, at(now)).delay,
            Duration::ZERO,
            "call {n}"
        );
    }
}

#[test]
fn the_delay_falls_faster_than_it_rises() {
    // One and a half times the target from so many workers that they do not feel the delay.
    let mut friction = friction();
    let calls: Vec<_> = (0..300)
        .map(|n| {
            (
                f64::from(n) / 1.5,
                friction.admit(&ANN, TOOL, at(f64::from(n) / 1.5)),
            )
        })
        .collect();
    let first = calls.iter().find(|(_, d)| !d.delay.is_zero()).unwrap().0;
    let (stop, last) = calls.last().unwrap();
    let (rise, height) = (stop - first, last.delay.as_secs_f64());
    assert!(height > 30.0);
    let fall = (0..1000)
        .map(f64::from)
        .find(|seconds| {
            // Each of them asks a copy, for asking is calling.
            let mut friction = self::friction();
            for (now, _) in &calls {
                friction.admit(&ANN, TOOL, at(*now));
            }
            friction
                .admit(&ANN, TOOL, at(stop + seconds))
                .delay
                .is_zero()
        })
        .unwrap();
    assert!(fall < 0.6 * rise, "up in {rise} s, down in {fall} s");
}

#[test]
fn the_integral_is_bounded() {
    let mut friction = friction();
    burst(&mut friction, "t", 100_000, 0.0);
    assert!(
        friction.admit(&ANN, TOOL, at(122.0)).delay.is_zero(),
        "all is over after the longest delay"
    );
}

#[test]
fn a_cancelled_call_gives_its_place_back() {
    let mut friction = friction();
    burst(&mut friction, "t", 60, 0.0);
    let before = friction.admit(&ANN, TOOL, at(0.0));
    let waiting: Vec<_> = (0..20)
        .map(|_| friction.admit(&ANN, TOOL, at(0.0)))
        .collect();
    waiting
        .iter()
        .for_each(|d| friction.release(&d.slot, at(0.5)));
    let after = friction.admit(&ANN, TOOL, at(0.5));
    let next = before.delay.as_secs_f64() + 1.0 / 1.05 - 0.5;
    assert!(
        (after.delay.as_secs_f64() - next).abs() < 1e-6,
        "{:?}, not {next}",
        after.delay
    );
}

#[test]
fn a_call_that_went_keeps_its_place() {
    let mut friction = friction();
    let done = burst(&mut friction, "t", 60, 0.0);
    let now = done.delay.as_secs_f64() + 0.01;
    friction.release(&done.slot, at(now));
    assert!(friction.admit(&ANN, TOOL, at(now)).delay > at(0.9));
}

#[test]
fn cancelling_is_no_way_to_more_calls() {
    // Sixteen workers that give up every other call while it waits.
    let mut friction = friction();
    let (mut went, mut workers) = (0, [0.0_f64; 16]);
    for n in 0..40_000 {
        let worker = workers.iter_mut().min_by(|a, b| a.total_cmp(b)).unwrap();
        let now = *worker;
        if now > 4000.0 {
            break;
        }
        let decision = friction.admit(&ANN, TOOL, at(now));
        if n % 2 == 0 && !decision.delay.is_zero() {
            *worker = now + 0.05;
            friction.release(&decision.slot, at(*worker));
        } else {
            *worker = now + decision.delay.as_secs_f64() + 0.01;
            went += i32::from(*worker > 1000.0 && *worker <= 4000.0);
        }
    }
    let rate = f64::from(went) / 3000.0;
    assert!((0.9..=1.1).contains(&rate), "{rate}");
}

#[test]
fn memory_is_bounded_and_eviction_does_not_forgive() {
    let slow = FrictionConfig {
        rate: Rate {
            calls: 1,
            period_seconds: 3600,
        },
        per: Per::ClientAndSubject,
        warmup_calls: 1,
        ..config()
    };
    let mut friction = Friction::new(&slow);
    let memory = friction.table.bytes();
    assert!(memory < 1 << 20);
    for n in 0..200_000 {
        let client_id = format!("client-{n}");
        let caller = Caller {
            client_id: &client_id,
            subject: "bad",
        };
        friction.admit(&caller, TOOL, at(f64::from(n) / 1e4));
    }
    assert_eq!(friction.table.bytes(), memory);
    // The first was forgotten long ago, and comes back to no better place.
    let back = Caller {
        client_id: "client-0",
        subject: "bad",
    };
    assert_eq!(
        friction.admit(&back, TOOL, at(20.0)).delay,
        Duration::from_secs(120)
    );
}

#[test]
fn a_flood_of_client_ids_slows_nobody_else() {
    let mut friction = Friction::new(&FrictionConfig {
        per: Per::ClientAndSubject,
        ..config()
    });
    for n in 0..400_000_u32 {
        let now = f64::from(n) / 1000.0;
        let client_id = format!("client-{n}");
        friction.admit(
            &Caller {
                client_id: &client_id,
                subject: "bad",
            },
            TOOL,
            at(now),
        );
        if n % 2000 == 0 {
            assert_eq!(
                friction.admit(&ANN, TOOL, at(now)).delay,
                Duration::ZERO,
                "after {n}"
            );
        }
    }
}

#[test]
fn state_outlives_a_reload() {
    let mut friction = friction();
    let before = burst(&mut friction, "t", 100, 0.0).delay;
    friction.reconfigure(&FrictionConfig {
        half_life_seconds: 60,
        ..config()
    });
    assert!(burst(&mut friction, "t", 1, 0.0).delay > before);
    // A new bound holds at once.
    friction.reconfigure(&FrictionConfig {
        max_delay_milliseconds: 500,
        ..config()
    });
    assert_eq!(
        burst(&mut friction, "t", 1, 0.0).delay,
        Duration::from_millis(500)
    );
}

#[test]
fn a_decision_says_what_was_observed() {
    let mut friction = Friction::new(&FrictionConfig {
        subject_rate: Some(a_minute(600)),
        ..config()
    });
    let first = burst(&mut friction, "t", 1, 0.0);
    assert_eq!((first.level, first.target), (Level::Tool, 1.0));
    assert!(first.observed < 0.05);
    assert!(burst(&mut friction, "t", 99, 0.0).observed > 2.0);
}

#[test]
fn a_retry_is_of_the_same_subject_client_and_call() {
    let mut friction = friction();
    let bob = Caller {
        subject: "bob",
        ..ANN
    };
    let other_client = Caller {
        client_id: "other",
        ..ANN
    };
    let call = friction.retry_key(&ANN, TOOL);
    friction.asked(call, "state");
    for (caller, counted, state) in [
        (ANN, TOOL, "another"),
        (ANN, Counted::Tool("x"), "state"),
        (ANN, Counted::Method("prompts/get"), "state"),
        (bob, TOOL, "state"),
        (other_client, TOOL, "state"),
    ] {
        let key = friction.retry_key(&caller, counted);
        assert!(state == "another" || key.call != call.call);
        assert_eq!(
            friction.is_retry(key, state),
            None,
            "{caller:?} {counted:?} {state}"
        );
    }
    let mut next = friction.is_retry(call, "state");
    assert!(next.is_some());
    assert_eq!(friction.is_retry(call, "state"), None, "once");
    // A server that asks for ever.
    let mut retries = 0;
    while let Some(key) = next {
        friction.asked(key, "state");
        next = friction.is_retry(call, "state");
        retries += 1;
        assert!(retries < 100);
    }
    assert_eq!(retries, super::retries::ROUNDS);
}
