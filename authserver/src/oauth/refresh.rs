//! Refresh tokens: what is kept about one, and the rule for refreshing with it (OAuth 2.1, section 4.3;
//! RFC 9700, section 4.14; ADR 13).
//!
//! A family is a tree: each refresh adds a token below the one that was presented. An unused token always rotates,
//! however often its siblings have. A used one gets a sibling for a short time after its first use, because
//! parallel requests or a lost response are not an attack. Later it ends the family, unless no token below it was
//! ever used: then the responses were lost, and the client is given one more, once.

use std::time::Duration;

use mcpauth_service::clock::UnixTime;
use mcpauth_wire::Scopes;

use crate::keys::pepper::KeyedHash;
use crate::oauth::grant::{Grant, Refusal};

/// How many unused tokens a family keeps: the newest.
pub const MAX_UNUSED: usize = 64;
/// How many used or void tokens a family keeps: those last used, and besides them all within the grace period.
pub const MAX_USED: usize = 64;

/// What has become of a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// No refresh with it is committed.
    Unused,
    /// A refresh with it is committed.
    Used {
        /// When that was done for the first time.
        first: UnixTime,
        /// Whether a token that it was exchanged for has been used: the client received that response.
        successor_used: bool,
    },
    /// Replaced after a lost response, as the token that was presented again or as the one that was lost.
    Void {
        /// When that was.
        since: UnixTime,
    },
}

/// A stored refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshToken {
    /// The one that it was exchanged for; none for a family's first.
    pub parent: Option<KeyedHash>,
    /// When it was issued, in the time of its family ([`Grant::time`]).
    pub issued_at: UnixTime,
    /// The end of its idle lifetime.
    pub expires_at: UnixTime,
    /// What has become of it.
    pub mark: Mark,
}

/// What an authenticated client asks for with a refresh token.
#[derive(Clone, Copy, Debug)]
pub struct RefreshAttempt<'a> {
    /// The client that presents it.
    pub client_id: &'a str,
    /// `resource` (RFC 8707): where it is sent it must be the grant's.
    pub resource: Option<&'a str>,
    /// `scope`: the new access token's, at most the grant's; absent: the grant's.
    pub scopes: Option<&'a Scopes>,
    /// How long after its first use a token gets siblings; zero: never.
    pub grace: Duration,
}

/// Why a refresh is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshKind {
    /// The token was unused.
    Rotation,
    /// The token was used a moment ago.
    Sibling,
    /// No response to the token has arrived. It and the tokens of those responses become void.
    LostResponse,
}

/// The outcome of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum RefreshVerdict {
    /// Issue a token below this one.
    Grant(RefreshKind),
    /// Refuse; nothing changes.
    Refuse(Refusal),
    /// Reuse: refuse, and revoke the family.
    Revoke,
}

impl RefreshToken {
    /// A token as it begins.
    pub fn new(parent: Option<KeyedHash>, issued_at: UnixTime, expires_at: UnixTime) -> Self {
        Self {
            parent,
            issued_at,
            expires_at,
            mark: Mark::Unused,
        }
    }

    /// Decides. A request from another client reveals and changes nothing.
    pub fn refresh(
        &self,
        grant: &Grant,
        attempt: &RefreshAttempt<'_>,
        now: UnixTime,
    ) -> RefreshVerdict {
        use RefreshVerdict::{Refuse, Revoke};
        if attempt.client_id != grant.client_id {
            return Refuse(Refusal::AnotherClient);
        }
        if now >= self.expires_at || now >= grant.expires_at {
            return Refuse(Refusal::Expired);
        }
        let Some(kind) = self.kind(attempt.grace, grant.time(now)) else {
            return Revoke;
        };
        if attempt.resource.is_some_and(|uri| uri != grant.resource) {
            return Refuse(Refusal::Resource);
        }
        if attempt
            .scopes
            .is_some_and(|scopes| !scopes.is_subset(&grant.scopes))
        {
            return Refuse(Refusal::Scope);
        }
        RefreshVerdict::Grant(kind)
    }

    /// Why it may be refreshed; `None` when presenting it ends the family.
    fn kind(&self, grace: Duration, time: UnixTime) -> Option<RefreshKind> {
        match self.mark {
            Mark::Unused => Some(RefreshKind::Rotation),
            Mark::Used { first, .. } if time < first.plus(grace) => Some(RefreshKind::Sibling),
            Mark::Used {
                successor_used: false,
                ..
            } => Some(RefreshKind::LostResponse),
            Mark::Used { .. } | Mark::Void { .. } => None,
        }
    }
}

/// The tokens that a family no longer keeps, at this time of the family. They become unknown, which harms only who
/// presents them.
pub fn surplus<K: Copy>(
    family: &[(K, RefreshToken)],
    grace: Duration,
    time: UnixTime,
) -> impl Iterator<Item = K> {
    let mut unused = vec![];
    let mut used = vec![];
    for (key, token) in family {
        match token.mark {
            Mark::Unused => unused.push((token.issued_at, *key)),
            Mark::Used { first: at, .. } | Mark::Void { since: at } => {
                used.push((at, token.issued_at, *key));
            }
        }
    }
    unused.sort_by_key(|(issued_at, _)| std::cmp::Reverse(*issued_at));
    used.sort_by_key(|(at, issued_at, _)| std::cmp::Reverse((*at, *issued_at)));
    let unused = unused.into_iter().skip(MAX_UNUSED).map(|(_, key)| key);
    let used = used.into_iter().skip(MAX_USED);
    let used = used.filter(move |(at, ..)| time >= at.plus(grace));
    unused.chain(used.map(|(.., key)| key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::grant::{GrantId, NewGrant};

    const NOW: UnixTime = UnixTime::from_seconds(1_000_000);
    const MINUTE: Duration = Duration::from_secs(60);
    const MILLISECOND: Duration = Duration::from_millis(1);
    const REUSE: RefreshVerdict = RefreshVerdict::Revoke;
    const ROTATION: RefreshVerdict = RefreshVerdict::Grant(RefreshKind::Rotation);
    const SIBLING: RefreshVerdict = RefreshVerdict::Grant(RefreshKind::Sibling);
    const LOST_RESPONSE: RefreshVerdict = RefreshVerdict::Grant(RefreshKind::LostResponse);

    fn grant() -> Grant {
        let grant = NewGrant {
            id: GrantId::from_bytes([1; 16]),
            subject: Some("alice".into()),
            login: None,
            authenticated_at: None,
            client_id: "client".into(),
            resource: "https://notes.example/mcp".into(),
            scopes: Scopes::parse("read write").unwrap(),
        };
        Grant::new(grant, NOW, NOW.plus(MINUTE * 1000))
    }

    fn token(mark: Mark) -> RefreshToken {
        RefreshToken {
            mark,
            ..RefreshToken::new(None, NOW, NOW.plus(MINUTE * 100))
        }
    }

    fn attempt(grace: Duration) -> RefreshAttempt<'static> {
        RefreshAttempt {
            client_id: "client",
            resource: None,
            scopes: None,
            grace,
        }
    }

    fn decide(mark: Mark, grace: Duration, after: Duration) -> RefreshVerdict {
        token(mark).refresh(&grant(), &attempt(grace), NOW.plus(after))
    }

    const USED: Mark = Mark::Used {
        first: NOW,
        successor_used: true,
    };
    const UNANSWERED: Mark = Mark::Used {
        first: NOW,
        successor_used: false,
    };
    const VOID: Mark = Mark::Void { since: NOW };

    #[test]
    fn each_mark_has_its_verdict() {
        for (mark, inside, after) in [
            (Mark::Unused, ROTATION, ROTATION),
            (USED, SIBLING, REUSE),
            (UNANSWERED, SIBLING, LOST_RESPONSE),
            (VOID, REUSE, REUSE),
        ] {
            let last = MINUTE - MILLISECOND;
            assert_eq!(decide(mark, MINUTE, last), inside, "{mark:?}");
            assert_eq!(decide(mark, MINUTE, MINUTE), after, "{mark:?}");
            // Without a grace period there is no sibling.
            assert_eq!(decide(mark, Duration::ZERO, last), after, "{mark:?}");
        }
    }

    #[test]
    fn what_is_presented_wrongly_reveals_nothing_and_revokes_nothing() {
        let expired = RefreshVerdict::Refuse(Refusal::Expired);
        for mark in [Mark::Unused, USED, UNANSWERED, VOID] {
            assert_eq!(decide(mark, MINUTE, MINUTE * 100), expired);
            let mut over = grant();
            over.expires_at = NOW;
            let verdict = token(mark).refresh(&over, &attempt(MINUTE), NOW);
            assert_eq!(verdict, expired);
            let stolen = RefreshAttempt {
                client_id: "other",
                ..attempt(MINUTE)
            };
            let verdict = token(mark).refresh(&grant(), &stolen, NOW.plus(MINUTE * 2));
            assert_eq!(verdict, RefreshVerdict::Refuse(Refusal::AnotherClient));
        }
    }

    /// A slower clock does not bring a grace period back that the family has seen end.
    #[test]
    fn a_familys_time_never_goes_back() {
        let mut grant = grant();
        grant.changed_at = NOW.plus(MINUTE);
        let verdict = token(USED).refresh(&grant, &attempt(MINUTE), NOW);
        assert_eq!(verdict, REUSE);
    }

    #[test]
    fn the_newest_unused_and_the_last_used_are_kept() {
        let at = |minutes: u32| NOW.plus(MINUTE * minutes);
        let used = |minutes| Mark::Used {
            first: at(minutes),
            successor_used: false,
        };
        let issued = |minutes, mark| RefreshToken {
            issued_at: at(minutes),
            ..token(mark)
        };
        let unused = (0..66).map(|n| (n, issued(n, Mark::Unused)));
        let used = (100..166).map(|n| (n, issued(n, used(n))));
        let family: Vec<_> = unused.chain(used).collect();
        let surplus = |grace, time| surplus(&family, grace, time).collect::<Vec<_>>();
        assert_eq!(surplus(MINUTE, at(1000)), [1, 0, 101, 100]);
        assert_eq!(surplus(MINUTE * 10, at(111)), [1, 0, 101, 100]);
        assert_eq!(surplus(MINUTE * 10, at(110)), [1, 0, 100]);
    }
}
