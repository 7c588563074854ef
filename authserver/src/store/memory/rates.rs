//! Counts of requests, for the limits on them: a table for each rule, so that a flood under one rule makes no other forget.

use mcpauth_service::clock::UnixTime;

use super::State;
use crate::oauth::rate_limit::{Decision, RateLimit, RateTable};
use crate::store::digest;

impl State {
    pub(super) fn hit(
        &mut self,
        rule: &str,
        subject: &str,
        limit: RateLimit,
        now: UnixTime,
    ) -> Decision {
        let key = digest(&[subject]);
        let table = self.rates.entry(rule.to_owned());
        let table = table.or_insert_with(RateTable::new);
        table.hit(key, limit, now)
    }

    pub(super) fn has_hits(&mut self, rule: &str, subject: &str, now: UnixTime) -> bool {
        let table = self.rates.get_mut(rule);
        table.is_some_and(|table| table.has_hits(&digest(&[subject]), now))
    }
}
