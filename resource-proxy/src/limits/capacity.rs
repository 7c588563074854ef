//! Capacity for the requests in flight.
//!
//! A body is read completely before it is checked, and friction may delay it for minutes. Without
//! a limit, a single client with a token could use up all memory. So capacity is reserved for a request
//! before its body is read; if none is free, the request waits. No subject waits for another: each
//! has a share. A body waits only for other bodies, however many streams are open. What is held of responses takes
//! from the same shares, but does not wait: its request has begun.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many calls and streams a subject has in flight at once. Each holds some 16 KiB until its response
/// ends: its head, and the connection to the server.
const REQUESTS: usize = 512;
/// Maximum number of requests in flight and waiting, together. A well-behaved client stays below it.
const WAITING: usize = 1024;
/// The same of all subjects: each holds its head, of up to 16 KiB.
const ALL_WAITING: usize = 3 * WAITING;
/// The least share of a subject for bodies, in bytes.
const LEAST_SHARE: u32 = 8 * 1024 * 1024;
/// How many shares there are.
const SHARES: usize = 4;

/// The bounds.
#[derive(Debug)]
pub struct Capacity {
    /// A subject's share for bodies, in KiB.
    share: u32,
    all: Lots,
    subjects: Mutex<Subjects>,
}

/// The subjects with requests.
#[derive(Debug, Default)]
struct Subjects {
    shares: HashMap<String, Share>,
    members: usize,
}

/// What there is of each. The semaphores are never closed: there is a permit of each.
#[derive(Clone, Debug)]
struct Lots {
    requests: Arc<Semaphore>,
    /// In KiB.
    bodies: Arc<Semaphore>,
}

#[derive(Debug)]
struct Share {
    lots: Lots,
    members: usize,
}

/// Too many requests of this subject, or of all, are waiting already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The capacity that is reserved for a request, until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    taken: [Taken; 2],
    allowance: Allowance,
}

/// Where the response to a request gets capacity.
#[derive(Clone, Debug)]
pub struct Allowance {
    /// In KiB: the subject's, and everybody's.
    bodies: [Arc<Semaphore>; 2],
    member: Arc<Member>,
}

/// The capacity that some bytes of a response take, until it is dropped.
#[derive(Debug)]
pub struct Space {
    _taken: [OwnedSemaphorePermit; 2],
    _member: Arc<Member>,
}

/// What a request has of some lots.
#[derive(Debug)]
struct Taken {
    _request: Option<OwnedSemaphorePermit>,
    body: Option<OwnedSemaphorePermit>,
}

impl Lots {
    fn new(requests: usize, kibibytes: usize) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(requests)),
            bodies: Arc::new(Semaphore::new(kibibytes)),
        }
    }

    async fn take(self, kibibytes: u32) -> Taken {
        Taken {
            _request: self.requests.acquire_owned().await.ok(),
            body: self.bodies.acquire_many_owned(kibibytes).await.ok(),
        }
    }
}

#[derive(Debug)]
struct Member {
    capacity: Arc<Capacity>,
    subject: String,
}

impl Capacity {
    /// For bodies of at most this many bytes: two of them for each subject, and for four subjects.
    pub fn new(body: u32) -> Self {
        let share = kibibytes(LEAST_SHARE).max(2 * kibibytes(body));
        Self {
            share,
            all: Lots::new(REQUESTS * SHARES, share as usize * SHARES),
            subjects: Mutex::default(),
        }
    }

    /// Reserves capacity for a request with a body of this many bytes.
    ///
    /// # Errors
    /// Too many requests of this subject, or of all, are waiting already.
    pub async fn reserve(self: &Arc<Self>, subject: &str, body: u32) -> Result<Reservation, Full> {
        let (member, own) = self.join(subject)?;
        let needed = kibibytes(body).min(self.share);
        let all = self.all.clone();
        let allowance = Allowance {
            bodies: [&own, &all].map(|lots| Arc::clone(&lots.bodies)),
            member: Arc::new(member),
        };
        Ok(Reservation {
            taken: [own.take(needed).await, all.take(needed).await],
            allowance,
        })
    }

    fn join(self: &Arc<Self>, subject: &str) -> Result<(Member, Lots), Full> {
        let mut subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        let Subjects { shares, members } = &mut *subjects;
        if *members >= ALL_WAITING {
            return Err(Full);
        }
        let share = shares.entry(subject.to_owned()).or_insert_with(|| Share {
            lots: Lots::new(REQUESTS, self.share as usize),
            members: 0,
        });
        if share.members >= WAITING {
            return Err(Full);
        }
        share.members += 1;
        *members += 1;
        let member = Member {
            capacity: Arc::clone(self),
            subject: subject.to_owned(),
        };
        Ok((member, share.lots.clone()))
    }
}

impl Allowance {
    /// Takes capacity for so many bytes, if it is there.
    pub fn take(&self, bytes: u32) -> Option<Space> {
        let take = |lot: &Arc<Semaphore>| {
            let lot = Arc::clone(lot);
            lot.try_acquire_many_owned(kibibytes(bytes)).ok()
        };
        let [own, all] = self.bodies.each_ref().map(take);
        Some(Space {
            _taken: [own?, all?],
            _member: Arc::clone(&self.member),
        })
    }
}

impl Reservation {
    /// Where the response gets capacity.
    pub fn allowance(&self) -> Allowance {
        self.allowance.clone()
    }

    /// Returns the capacity that a body of this many bytes does not need.
    pub fn keep(&mut self, body: usize) {
        let needed = kibibytes(u32::try_from(body).unwrap_or(u32::MAX)) as usize;
        let bodies = self.taken.iter_mut().map(|taken| &mut taken.body);
        for permit in bodies.flatten() {
            let surplus = permit.num_permits().saturating_sub(needed);
            drop(permit.split(surplus));
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut subjects = self
            .capacity
            .subjects
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        subjects.members -= 1;
        if let Some(share) = subjects.shares.get_mut(&self.subject) {
            share.members -= 1;
            if share.members == 0 {
                subjects.shares.remove(&self.subject);
            }
        }
    }
}

fn kibibytes(bytes: u32) -> u32 {
    bytes.div_ceil(1024)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const LARGEST: u32 = 16 * 1024 * 1024;

    fn capacity() -> Arc<Capacity> {
        Arc::new(Capacity::new(LARGEST))
    }

    /// A place that is there at once.
    fn at_once(capacity: &Arc<Capacity>, subject: &str, body: u32) -> Option<Reservation> {
        capacity.reserve(subject, body).now_or_never()?.ok()
    }

    #[test]
    fn a_subject_that_fills_its_share_waits_and_no_other_does() {
        let capacity = capacity();
        let alice = [(); 2].map(|()| at_once(&capacity, "alice", LARGEST).unwrap());
        assert!(at_once(&capacity, "alice", 1).is_none());
        let bob = at_once(&capacity, "bob", LARGEST).unwrap();
        let mut waiting = Box::pin(capacity.reserve("alice", LARGEST));
        assert!((&mut waiting).now_or_never().is_none());
        drop(alice);
        assert!(waiting.now_or_never().is_some());
        drop(bob);
    }

    #[test]
    fn all_together_are_bounded() {
        let capacity = capacity();
        let names = ["a", "b", "c", "d"];
        let places: Vec<_> = names
            .iter()
            .flat_map(|name| [(); 2].map(|()| at_once(&capacity, name, LARGEST).unwrap()))
            .collect();
        assert!(at_once(&capacity, "e", 1).is_none());
        drop(places);
        assert!(at_once(&capacity, "e", 1).is_some());
    }

    #[test]
    fn streams_are_bounded_and_no_body_waits_for_them() {
        let capacity = capacity();
        let body = at_once(&capacity, "alice", LARGEST).unwrap();
        let streams: Vec<_> = (1..REQUESTS)
            .map(|_| at_once(&capacity, "alice", 0).unwrap())
            .collect();
        assert!(at_once(&capacity, "alice", 0).is_none());
        drop(body);
        assert!(at_once(&capacity, "alice", LARGEST).is_some());
        drop(streams);
    }

    #[test]
    fn who_waits_is_bounded() {
        let capacity = capacity();
        let places: Vec<_> = (0..REQUESTS)
            .map(|_| at_once(&capacity, "alice", 0).unwrap())
            .collect();
        let mut waiting: Vec<_> = (REQUESTS..WAITING)
            .map(|_| Box::pin(capacity.reserve("alice", 0)))
            .collect();
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        let more = capacity.reserve("alice", 0).now_or_never();
        assert_eq!(more.unwrap().unwrap_err(), Full);
        assert!(at_once(&capacity, "bob", 0).is_some());
        drop((places, waiting));
        assert!(at_once(&capacity, "alice", 0).is_some());
    }

    /// They hold memory, and HTTP/2 lets few connections send many.
    #[test]
    fn all_who_wait_are_bounded_together() {
        let capacity = capacity();
        let reserve = |subject| {
            let mut one = Box::pin(capacity.reserve(subject, 0));
            let reserved = (&mut one).now_or_never();
            (one, reserved)
        };
        let names = ["a", "b", "c"];
        let waiting: Vec<_> = (0..ALL_WAITING)
            .map(|number| reserve(names[number % names.len()]))
            .collect();
        let is_refused = |reserved: &Option<Result<_, Full>>| matches!(reserved, Some(Err(_)));
        assert!(!waiting.iter().any(|(_, reserved)| is_refused(reserved)));
        assert!(is_refused(&reserve("d").1));
        drop(waiting);
        assert!(at_once(&capacity, "d", 0).is_some());
    }

    #[test]
    fn what_a_body_does_not_need_is_given_back() {
        let capacity = capacity();
        let mut places = Vec::new();
        for _ in 0..100 {
            let mut place = at_once(&capacity, "alice", LARGEST).unwrap();
            place.keep(1000);
            places.push(place);
        }
    }

    #[test]
    fn nothing_is_left_of_requests_that_ended_or_were_given_up() {
        let capacity = capacity();
        let places = [(); 2].map(|()| at_once(&capacity, "alice", LARGEST));
        assert!(at_once(&capacity, "alice", LARGEST).is_none());
        drop(places);
        assert!(capacity.subjects.lock().unwrap().shares.is_empty());
        assert_eq!(capacity.subjects.lock().unwrap().members, 0);
        assert_eq!(
            capacity.all.bodies.available_permits(),
            capacity.share as usize * SHARES
        );
        assert_eq!(capacity.all.requests.available_permits(), REQUESTS * SHARES);
    }

    #[test]
    fn what_is_held_of_responses_takes_from_the_share_of_its_subject() {
        let capacity = capacity();
        let request = at_once(&capacity, "alice", 0).unwrap();
        let allowance = request.allowance();
        let spaces = [(); 2].map(|()| allowance.take(LARGEST).unwrap());
        assert!(allowance.take(1).is_none());
        assert!(at_once(&capacity, "alice", 1).is_none());
        assert!(at_once(&capacity, "bob", LARGEST).is_some());
        // It may outlive its request.
        drop((request, allowance));
        assert!(at_once(&capacity, "alice", 1).is_none());
        drop(spaces);
        assert!(at_once(&capacity, "alice", LARGEST).is_some());
        assert!(capacity.subjects.lock().unwrap().shares.is_empty());
        assert_eq!(capacity.subjects.lock().unwrap().members, 0);
    }

    #[test]
    fn the_largest_configurable_body_fits() {
        let largest = 268_435_456;
        let capacity = Arc::new(Capacity::new(largest));
        assert!(at_once(&capacity, "alice", largest).is_some());
    }
}
