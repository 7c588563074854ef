//! Room for the requests under way.
//!
//! A body is read whole before anything of it is judged, and friction may hold it for minutes. Without
//! a bound, whoever has a token could take all memory. So a request gets room before its body is read;
//! where there is none, it waits, and its client with it. No subject waits for another: each has a
//! share. And no request waits for what is not like it: a body for bodies only, however many streams
//! are open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many calls and streams a subject has under way at once. Each holds some 16 KiB until its response
/// ends: its head, and the connection to the server.
const REQUESTS: usize = 512;
/// How many may be under way and wait, together. More is no client that works.
const WAITING: usize = 1024;
/// The least share of a subject for bodies, in bytes.
const LEAST_SHARE: u32 = 8 * 1024 * 1024;
/// How many shares there are.
const SHARES: usize = 4;

/// The bounds.
#[derive(Debug)]
pub struct Room {
    /// A subject's share for bodies, in KiB.
    share: u32,
    all: Lots,
    /// Of subjects that have requests.
    subjects: Mutex<HashMap<String, Share>>,
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

/// Too many requests of this subject wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A request's room, until it is dropped.
#[derive(Debug)]
pub struct Place {
    taken: [Taken; 2],
    _member: Member,
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
    room: Arc<Room>,
    subject: String,
}

impl Room {
    /// For bodies of at most this many bytes: two of them for each subject, and for four subjects.
    pub fn new(body: u32) -> Self {
        let share = kibibytes(LEAST_SHARE).max(2 * kibibytes(body));
        Self {
            share,
            all: Lots::new(REQUESTS * SHARES, share as usize * SHARES),
            subjects: Mutex::default(),
        }
    }

    /// Waits for room for a request with a body of this many bytes.
    ///
    /// # Errors
    /// Too many of this subject wait already.
    pub async fn take(self: &Arc<Self>, subject: &str, body: u32) -> Result<Place, Full> {
        let (member, own) = self.join(subject)?;
        let needed = kibibytes(body).min(self.share);
        let all = self.all.clone();
        Ok(Place {
            taken: [own.take(needed).await, all.take(needed).await],
            _member: member,
        })
    }

    fn join(self: &Arc<Self>, subject: &str) -> Result<(Member, Lots), Full> {
        let mut subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        let share = subjects.entry(subject.to_owned()).or_insert_with(|| Share {
            lots: Lots::new(REQUESTS, self.share as usize),
            members: 0,
        });
        if share.members >= WAITING {
            return Err(Full);
        }
        share.members += 1;
        let member = Member {
            room: Arc::clone(self),
            subject: subject.to_owned(),
        };
        Ok((member, share.lots.clone()))
    }
}

impl Place {
    /// Gives back what a body of this many bytes does not need.
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
            .room
            .subjects
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = subjects.get_mut(&self.subject) {
            share.members -= 1;
            if share.members == 0 {
                subjects.remove(&self.subject);
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

    fn room() -> Arc<Room> {
        Arc::new(Room::new(LARGEST))
    }

    /// A place that is there at once.
    fn at_once(room: &Arc<Room>, subject: &str, body: u32) -> Option<Place> {
        room.take(subject, body).now_or_never()?.ok()
    }

    #[test]
    fn a_subject_that_fills_its_share_waits_and_no_other_does() {
        let room = room();
        let alice = [(); 2].map(|()| at_once(&room, "alice", LARGEST).unwrap());
        assert!(at_once(&room, "alice", 1).is_none());
        let bob = at_once(&room, "bob", LARGEST).unwrap();
        let mut waiting = Box::pin(room.take("alice", LARGEST));
        assert!((&mut waiting).now_or_never().is_none());
        drop(alice);
        assert!(waiting.now_or_never().is_some());
        drop(bob);
    }

    #[test]
    fn all_together_are_bounded() {
        let room = room();
        let names = ["a", "b", "c", "d"];
        let places: Vec<_> = names
            .iter()
            .flat_map(|name| [(); 2].map(|()| at_once(&room, name, LARGEST).unwrap()))
            .collect();
        assert!(at_once(&room, "e", 1).is_none());
        drop(places);
        assert!(at_once(&room, "e", 1).is_some());
    }

    #[test]
    fn streams_are_bounded_and_no_body_waits_for_them() {
        let room = room();
        let body = at_once(&room, "alice", LARGEST).unwrap();
        let streams: Vec<_> = (1..REQUESTS)
            .map(|_| at_once(&room, "alice", 0).unwrap())
            .collect();
        assert!(at_once(&room, "alice", 0).is_none());
        drop(body);
        assert!(at_once(&room, "alice", LARGEST).is_some());
        drop(streams);
    }

    #[test]
    fn who_waits_is_bounded() {
        let room = room();
        let places: Vec<_> = (0..REQUESTS)
            .map(|_| at_once(&room, "alice", 0).unwrap())
            .collect();
        let mut waiting: Vec<_> = (REQUESTS..WAITING)
            .map(|_| Box::pin(room.take("alice", 0)))
            .collect();
        for one in &mut waiting {
            assert!(one.as_mut().now_or_never().is_none());
        }
        let more = room.take("alice", 0).now_or_never();
        assert_eq!(more.unwrap().unwrap_err(), Full);
        assert!(at_once(&room, "bob", 0).is_some());
        drop((places, waiting));
        assert!(at_once(&room, "alice", 0).is_some());
    }

    #[test]
    fn what_a_body_does_not_need_is_given_back() {
        let room = room();
        let mut places = Vec::new();
        for _ in 0..100 {
            let mut place = at_once(&room, "alice", LARGEST).unwrap();
            place.keep(1000);
            places.push(place);
        }
    }

    #[test]
    fn nothing_is_left_of_requests_that_ended_or_were_given_up() {
        let room = room();
        let places = [(); 2].map(|()| at_once(&room, "alice", LARGEST));
        assert!(at_once(&room, "alice", LARGEST).is_none());
        drop(places);
        assert!(room.subjects.lock().unwrap().is_empty());
        assert_eq!(
            room.all.bodies.available_permits(),
            room.share as usize * SHARES
        );
        assert_eq!(room.all.requests.available_permits(), REQUESTS * SHARES);
    }

    #[test]
    fn the_largest_configurable_body_fits() {
        let largest = 268_435_456;
        let room = Arc::new(Room::new(largest));
        assert!(at_once(&room, "alice", largest).is_some());
    }
}
