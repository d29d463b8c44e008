//! Values kept once each and named by small numbers, and results kept by what they follow from.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::{Arc, Mutex, OnceLock, RwLock},
};

/// Numbers values, equal ones equally. A value is looked up without a lock.
pub(crate) struct Interner<T> {
    numbers: Mutex<HashMap<Arc<T>, u32>>,
    /// Each chunk has room for twice as many values as the one before.
    chunks: [OnceLock<Chunk<T>>; 20],
}

type Chunk<T> = Box<[OnceLock<Arc<T>>]>;

/// So many values have room in the first chunk.
const FIRST: usize = 1 << 12;

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Self { numbers: Mutex::default(), chunks: std::array::from_fn(|_| OnceLock::new()) }
    }
}

impl<T: Eq + Hash> Interner<T> {
    pub(crate) fn number(&self, value: T) -> u32 {
        let mut numbers = self.numbers.lock().unwrap();
        let next = numbers.len();
        match numbers.entry(Arc::new(value)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let (chunk, place) = Self::place(next);
                let chunk = self.chunks[chunk].get_or_init(|| (0..FIRST << chunk).map(|_| OnceLock::new()).collect());
                let _ = chunk[place].set(new.key().clone());
                *new.insert(u32::try_from(next).unwrap())
            }
        }
    }

    pub(crate) fn get(&self, number: u32) -> &T {
        let (chunk, place) = Self::place(number as usize);
        self.chunks[chunk]
            .get()
            .and_then(|chunk| chunk[place].get())
            .expect("only numbers that were given out are used")
    }

    pub(crate) fn len(&self) -> usize {
        self.numbers.lock().unwrap().len()
    }

    fn place(number: usize) -> (usize, usize) {
        let chunk = ((number + FIRST) / FIRST).ilog2() as usize;
        (chunk, number + FIRST - (FIRST << chunk))
    }
}

/// What follows from two numbers, found out once.
#[derive(Default)]
pub(crate) struct Memo {
    shards: [RwLock<HashMap<u64, u32, BuildHasherDefault<Mix>>>; 32],
}

impl Memo {
    pub(crate) fn get(&self, of: (u32, u32), find: impl FnOnce() -> u32) -> u32 {
        let key = u64::from(of.0) << 32 | u64::from(of.1);
        let shard = &self.shards[(of.0 ^ of.1) as usize % self.shards.len()];
        if let Some(known) = shard.read().unwrap().get(&key) {
            return *known;
        }
        let found = find();
        shard.write().unwrap().insert(key, found);
        found
    }
}

/// A quick hash of one number.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only numbers are hashed")
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed ^ mixed >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[test]
fn equal_values_have_one_number_and_each_number_its_value() {
    let interner = Interner::default();
    let numbers: Vec<u32> = (0..20_000).map(|value| interner.number(value % 15_000)).collect();
    assert_eq!((interner.len(), numbers[14_999], numbers[15_000]), (15_000, 14_999, 0));
    assert!((0..15_000).all(|number| *interner.get(number) == number));
}
