//! A random walk through families of tokens, beside a model of what must come of each step.

use std::collections::HashMap;
use std::time::Duration;

use mcp_authserver::oauth::grant::{GrantId, Refusal};
use mcp_authserver::oauth::token::Token;
use mcpauth_service::clock::UnixTime;

use crate::fixture::{CLIENT, Fixture, GRACE, NOW, Tokens};

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

/// What the model knows of a family, in words other than the implementation's.
struct Family {
    alive: bool,
    /// When each generation was first rotated away.
    rotated: Vec<UnixTime>,
    siblings: u32,
}

struct Issued {
    grant: GrantId,
    generation: usize,
    access: Token,
    refresh: Token,
    expires_at: UnixTime,
}

#[derive(Default)]
struct Model {
    families: HashMap<GrantId, Family>,
    issued: Vec<Issued>,
}

impl Family {
    /// What must come of a refresh token of this generation, and what it does to the family.
    fn refresh(&mut self, generation: usize, now: UnixTime) -> Result<(), Refusal> {
        if !self.alive {
            return Err(Refusal::Unknown);
        }
        let current = self.rotated.len();
        if generation == current {
            self.rotated.push(now);
            self.siblings = 0;
            return Ok(());
        }
        let recent = generation + 1 == current && now.since(self.rotated[generation]) < GRACE;
        if recent && self.siblings < 10 {
            self.siblings += 1;
            return Ok(());
        }
        self.alive = false;
        Err(Refusal::Reused)
    }
}

impl Model {
    fn add(&mut self, tokens: Tokens) {
        let grant = tokens.issued.grant;
        self.families.entry(grant.id).or_insert(Family {
            alive: true,
            rotated: vec![],
            siblings: 0,
        });
        self.issued.push(Issued {
            grant: grant.id,
            generation: usize::try_from(grant.generation).unwrap(),
            access: tokens.access,
            refresh: tokens.refresh,
            expires_at: tokens.issued.access.expires_at,
        });
    }

    /// Likely one of the newest, but any now and then.
    fn pick(&self, random: &mut Lcg) -> usize {
        let newest = random.below(10) < 7;
        let among = if newest { 3 } else { self.issued.len() as u64 };
        let back = random.below(among.min(self.issued.len() as u64));
        self.issued.len() - 1 - usize::try_from(back).unwrap()
    }

    async fn check(&self, f: &Fixture, now: UnixTime) {
        for issued in &self.issued {
            let alive = self.families[&issued.grant].alive && now < issued.expires_at;
            assert_eq!(f.is_active(&issued.access, now).await, alive);
        }
    }
}

pub async fn no_token_survives_its_family(f: &Fixture) {
    for seed in 0..6 {
        let mut random = Lcg(seed);
        let mut model = Model::default();
        let mut now = NOW;
        model.add(f.family(now).await);
        for _ in 0..60 {
            now = now.plus(Duration::from_millis(random.below(25_000)));
            step(f, &mut model, &mut random, now).await;
        }
        model.check(f, now).await;
        f.store.remove_expired(NOW, now).await.unwrap();
        model.check(f, now).await;
        let dead = model.families.values().filter(|family| !family.alive);
        assert!(dead.count() > 0, "seed {seed} never ends a family");
    }
}

async fn step(f: &Fixture, model: &mut Model, random: &mut Lcg, now: UnixTime) {
    match random.below(12) {
        0 => model.add(f.family(now).await),
        1 => {
            let issued = &model.issued[model.pick(random)];
            let hashes = issued.refresh.hashes(&f.pepper);
            f.store.revoke_refresh_token(&hashes, CLIENT).await.unwrap();
            let id = issued.grant;
            model.families.get_mut(&id).unwrap().alive = false;
            model.check(f, now).await;
        }
        _ => {
            let issued = &model.issued[model.pick(random)];
            let family = model.families.get_mut(&issued.grant).unwrap();
            let expected = family.refresh(issued.generation, now);
            let outcome = f.refresh(&issued.refresh, now).await;
            assert_eq!(
                outcome.as_ref().map(|_| ()).map_err(|refusal| *refusal),
                expected
            );
            match outcome {
                Ok(tokens) => model.add(tokens),
                Err(_) => model.check(f, now).await,
            }
        }
    }
}
