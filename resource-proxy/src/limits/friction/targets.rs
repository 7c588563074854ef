//! The configuration as decisions need it.

use std::f64::consts::LN_2;

use mcpauth_wire::friction::{Friction, Group, Per, Rate};

use super::counted::Counted;
use super::law::{DEAD_ZONE, Law};
use crate::glob;

/// Every target of a resource.
#[derive(Debug)]
pub(super) struct Targets {
    pub(super) per: Per,
    /// That of tools in no group, and of methods.
    pub(super) tool: Target,
    groups: Vec<(Group, Target)>,
    pub(super) subject: Option<Law>,
    pub(super) resource: Option<Law>,
    /// Seconds.
    pub(super) half_life: f64,
    /// Seconds.
    pub(super) max_delay: f64,
    pub(super) warmup: u32,
    pub(super) hard_limit: Option<Rate>,
    /// The seconds over which the volume of a subject is averaged, if a target depends on it.
    pub(super) volume_tau: Option<f64>,
}

/// The least number of calls at a target's rate that the volume is an average of. A volume of fewer calls is
/// noise, and a tool would have a share of it.
const FEWEST: f64 = 10.0;

/// What a principal may have of a tool or group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// What it may always have.
    law: Law,
    /// The part of the subject's volume that is the pace beyond that, or 0.
    part: f64,
}

/// What a principal's cell is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name<'a> {
    Group(&'a str),
    Tool(&'a str),
    Method(&'static str),
    /// All tools together that never answered without an error.
    Unproven,
}

impl Target {
    fn new(rate: Rate, share: Option<f64>, half_life: f64) -> Self {
        // The dead zone is of what is left for others: at volume x beside y, x settles at
        // (1 + DEAD_ZONE)·share/(1 - share)·y.
        let part = |share: f64| (1.0 + DEAD_ZONE) * share / (1.0 + DEAD_ZONE * share);
        Self {
            law: Law::new(rate.per_second(), half_life),
            part: share.map_or(0.0, part),
        }
    }

    /// The law at this volume of the subject, in calls per second.
    pub(super) fn at(&self, volume: f64) -> Law {
        self.law.or_faster(self.part * volume)
    }
}

fn volume_tau(config: &Friction) -> Option<f64> {
    let own = config.share.map(|_| config.rate);
    let groups = config.groups.iter().filter(|group| group.share.is_some());
    let rates = own.into_iter().chain(groups.map(|group| group.rate));
    let slowest = rates.map(Rate::per_second).min_by(f64::total_cmp)?;
    let tau = f64::from(config.half_life_seconds) / LN_2;
    Some(tau.max(FEWEST / slowest))
}

impl Targets {
    /// `config` was validated.
    pub(super) fn new(config: &Friction) -> Self {
        let half_life = f64::from(config.half_life_seconds);
        let law = |rate: Rate| Law::new(rate.per_second(), half_life);
        let group = |group: &Group| {
            let target = Target::new(group.rate, group.share, half_life);
            (group.clone(), target)
        };
        Self {
            per: config.per,
            tool: Target::new(config.rate, config.share, half_life),
            groups: config.groups.iter().map(group).collect(),
            subject: config.subject_rate.map(law),
            resource: config.resource_rate.map(law),
            half_life,
            max_delay: f64::from(config.max_delay_milliseconds) / 1e3,
            warmup: config.warmup_calls,
            hard_limit: config.hard_limit,
            volume_tau: volume_tau(config),
        }
    }

    /// The group of a call, or itself, and what is kept there.
    pub(super) fn of<'a>(&'a self, counted: Counted<'a>) -> (Name<'a>, &'a Target) {
        let tool = match counted {
            Counted::Tool(tool) => tool,
            Counted::Method(method) => return (Name::Method(method), &self.tool),
        };
        let names = |pattern: &String| glob::matches(pattern, tool);
        let mut groups = self.groups.iter();
        match groups.find(|(group, _)| group.tools.iter().any(names)) {
            Some((group, target)) => (Name::Group(&group.name), target),
            None => (Name::Tool(tool), &self.tool),
        }
    }
}
