//! A table of what callers brought here, in bounded memory: nobody's entries displace those of who has fewer.

use std::collections::{BTreeSet, HashMap, VecDeque};

use aws_lc_rs::digest::{Context, SHA256};

/// Names an owner, or an entry of an owner.
pub type Key = [u8; 32];

/// The entries, each of one owner.
#[derive(Debug)]
pub struct FairTable<V> {
    /// The size of all entries; beyond it, the owner with the most loses its oldest.
    most: usize,
    /// The size of the entries of one owner; beyond it, its oldest is forgotten.
    most_of_one: usize,
    size: usize,
    entries: HashMap<Key, Entry<V>>,
    owners: HashMap<Key, Owned>,
    /// How much each owner has.
    sizes: BTreeSet<(usize, Key)>,
}

#[derive(Debug)]
struct Entry<V> {
    owner: Key,
    size: usize,
    value: V,
}

#[derive(Debug, Default)]
struct Owned {
    size: usize,
    /// The oldest first.
    keys: VecDeque<Key>,
}

impl<V> FairTable<V> {
    /// Without entries.
    pub fn new(most: usize, most_of_one: usize) -> Self {
        Self {
            most,
            most_of_one,
            size: 0,
            entries: HashMap::new(),
            owners: HashMap::new(),
            sizes: BTreeSet::new(),
        }
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether this owner has entries.
    pub fn has(&self, owner: &Key) -> bool {
        self.owners.contains_key(owner)
    }

    /// What is known by a key.
    pub fn get(&self, key: &Key) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    /// Remembers a value of this size, in place of the one with this key, which must be of the same owner.
    pub fn insert(&mut self, owner: Key, key: Key, value: V, size: usize) {
        self.remove(&key);
        if size > self.most_of_one {
            return;
        }
        while self.size_of(&owner) + size > self.most_of_one {
            self.forget_oldest(owner);
        }
        while self.size + size > self.most
            && let Some((_, largest)) = self.sizes.last().copied()
        {
            self.forget_oldest(largest);
        }
        self.change(owner, |owned| {
            owned.keys.push_back(key);
            owned.size += size;
        });
        self.size += size;
        self.entries.insert(key, Entry { owner, size, value });
    }

    /// Forgets what is known by a key.
    pub fn remove(&mut self, key: &Key) {
        if let Some(Entry { owner, size, .. }) = self.entries.remove(key) {
            self.size -= size;
            self.change(owner, |owned| {
                owned.keys.retain(|one| one != key);
                owned.size -= size;
            });
        }
    }

    fn size_of(&self, owner: &Key) -> usize {
        self.owners.get(owner).map_or(0, |owned| owned.size)
    }

    fn forget_oldest(&mut self, owner: Key) {
        let oldest = self.owners.get(&owner).and_then(|owned| owned.keys.front());
        if let Some(oldest) = oldest.copied() {
            self.remove(&oldest);
        }
    }

    /// Changes what an owner has.
    fn change(&mut self, owner: Key, change: impl FnOnce(&mut Owned)) {
        let owned = self.owners.entry(owner).or_default();
        self.sizes.remove(&(owned.size, owner));
        change(owned);
        if owned.keys.is_empty() {
            self.owners.remove(&owner);
        } else {
            self.sizes.insert((owned.size, owner));
        }
    }
}

/// A key of these parts, which their lengths keep apart.
pub fn key(parts: &[&str]) -> Key {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut key = Key::default();
    key.copy_from_slice(context.finish().as_ref());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 100;
    const MOST_OF_ONE: usize = 20;

    fn table() -> FairTable<usize> {
        FairTable::new(MOST, MOST_OF_ONE)
    }

    fn insert(table: &mut FairTable<usize>, owner: &str, name: usize, size: usize) {
        table.insert(key(&[owner]), of(owner, name), name, size);
    }

    fn of(owner: &str, name: usize) -> Key {
        key(&[owner, &name.to_string()])
    }

    fn names(table: &FairTable<usize>, owner: &str) -> Vec<usize> {
        let known = (0..1000).filter(|name| table.get(&of(owner, *name)).is_some());
        known.collect()
    }

    /// What is counted is what there is.
    fn assert_consistent(table: &FairTable<usize>) {
        let size: usize = table.entries.values().map(|entry| entry.size).sum();
        let of_owners: usize = table.owners.values().map(|owned| owned.size).sum();
        let keys: usize = table.owners.values().map(|owned| owned.keys.len()).sum();
        assert_eq!((size, of_owners), (table.size, table.size));
        assert_eq!(keys, table.entries.len());
        assert_eq!(table.sizes.len(), table.owners.len());
        assert!(table.size <= MOST, "{}", table.size);
    }

    #[test]
    fn who_has_too_much_loses_the_oldest() {
        let mut table = table();
        insert(&mut table, "alice", 0, 1);
        for name in 0..30 {
            insert(&mut table, "bob", name, 2);
        }
        assert_eq!(names(&table, "bob"), (20..30).collect::<Vec<_>>());
        assert_eq!(names(&table, "alice"), [0]);
        insert(&mut table, "bob", 99, MOST_OF_ONE);
        assert_eq!(names(&table, "bob"), [99]);
        insert(&mut table, "bob", 100, MOST_OF_ONE + 1);
        assert_eq!(names(&table, "bob"), [99]);
        assert_consistent(&table);
    }

    #[test]
    fn where_all_have_too_much_the_largest_loses() {
        let mut table = table();
        insert(&mut table, "alice", 0, 3);
        for owner in 0..30 {
            for name in 0..10 {
                insert(&mut table, &owner.to_string(), name, 2);
                assert_consistent(&table);
            }
        }
        assert_eq!(names(&table, "alice"), [0]);
        assert!(table.has(&key(&["29"])) && table.has(&key(&["0"])));
    }

    #[test]
    fn nothing_is_left_of_what_is_forgotten() {
        let mut table = table();
        for name in 0..10 {
            insert(&mut table, "alice", name, 1);
            insert(&mut table, "alice", name, 2);
            assert_consistent(&table);
        }
        for name in 0..11 {
            table.remove(&of("alice", name));
            assert_consistent(&table);
        }
        assert!(table.is_empty() && !table.has(&key(&["alice"])));
        assert_eq!(table.size, 0);
    }

    #[test]
    fn parts_are_kept_apart() {
        assert_ne!(key(&["client", "alice"]), key(&["clientalice", ""]));
        assert_ne!(key(&["client", "alice"]), key(&["clien", "talice"]));
    }
}
