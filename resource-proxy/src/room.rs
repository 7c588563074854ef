//! Room for the requests under way.
//!
//! A body is read whole before anything of it is judged, and friction may hold it for minutes. Without
//! a bound, whoever has a token could take all memory. So a request gets room before its body is read;
//! where there is none, it waits, and its client with it. Nobody is refused for that, and no subject
//! waits for another: each has a share of the room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a request takes besides its body, in bytes: its head, and until the end of its response the
/// connection to the server.
const HEAD: u32 = 16 * 1024;
/// The least share of a subject, in bytes.
const LEAST_SHARE: u32 = 8 * 1024 * 1024;
/// How many shares there are.
const SHARES: usize = 4;

/// Counts in KiB.
#[derive(Debug)]
pub struct Room {
    share: u32,
    all: Arc<Semaphore>,
    /// Of subjects that have requests.
    subjects: Mutex<HashMap<String, Share>>,
}

#[derive(Debug)]
struct Share {
    room: Arc<Semaphore>,
    requests: usize,
}

/// A request's room, until it is dropped. The semaphores are never closed: there is a permit of each.
#[derive(Debug)]
pub struct Place {
    of_share: Option<OwnedSemaphorePermit>,
    of_all: Option<OwnedSemaphorePermit>,
    _member: Member,
}

#[derive(Debug)]
struct Member {
    room: Arc<Room>,
    subject: String,
}

impl Room {
    /// For bodies of at most this many bytes: two of them for each subject, and for four subjects.
    pub fn new(body: u32) -> Self {
        let share = kibibytes(LEAST_SHARE).max(2 * kibibytes(HEAD.saturating_add(body)));
        Self {
            share,
            all: Arc::new(Semaphore::new(share as usize * SHARES)),
            subjects: Mutex::default(),
        }
    }

    /// Waits for room for a body of this many bytes.
    pub async fn take(self: &Arc<Self>, subject: &str, body: u32) -> Place {
        let (member, share) = self.join(subject);
        let needed = needed(body).min(self.share);
        let of_share = share.acquire_many_owned(needed).await.ok();
        let of_all = Arc::clone(&self.all).acquire_many_owned(needed).await.ok();
        Place {
            of_share,
            of_all,
            _member: member,
        }
    }

    fn join(self: &Arc<Self>, subject: &str) -> (Member, Arc<Semaphore>) {
        let mut subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        let share = subjects.entry(subject.to_owned()).or_insert_with(|| Share {
            room: Arc::new(Semaphore::new(self.share as usize)),
            requests: 0,
        });
        share.requests += 1;
        let member = Member {
            room: Arc::clone(self),
            subject: subject.to_owned(),
        };
        (member, Arc::clone(&share.room))
    }
}

impl Place {
    /// Gives back what a body of this many bytes does not need.
    pub fn keep(&mut self, body: usize) {
        let needed = needed(u32::try_from(body).unwrap_or(u32::MAX)) as usize;
        let permits = [&mut self.of_share, &mut self.of_all];
        for permit in permits.into_iter().flatten() {
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
            share.requests -= 1;
            if share.requests == 0 {
                subjects.remove(&self.subject);
            }
        }
    }
}

fn needed(body: u32) -> u32 {
    kibibytes(HEAD.saturating_add(body))
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
        room.take(subject, body).now_or_never()
    }

    #[test]
    fn a_subject_that_fills_its_share_waits_and_no_other_does() {
        let room = room();
        let alice = [(); 2].map(|()| at_once(&room, "alice", LARGEST).unwrap());
        assert!(at_once(&room, "alice", 0).is_none());
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
        assert!(at_once(&room, "e", 0).is_none());
        drop(places);
        assert!(at_once(&room, "e", 0).is_some());
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
        assert_eq!(room.all.available_permits(), room.share as usize * SHARES);
    }

    #[test]
    fn the_largest_configurable_body_fits() {
        let largest = 268_435_456;
        let room = Arc::new(Room::new(largest));
        assert!(at_once(&room, "alice", largest).is_some());
    }
}
