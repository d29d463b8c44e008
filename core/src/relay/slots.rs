//! Which node holds which slot of a server.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::Slot;

/// The slots of a server and what it keeps for their holders. A slot that was given back rests before it is used again,
/// under the next generation; less long only when no other is left: who comes and goes keeps nobody else out.
#[derive(Clone, Debug)]
pub struct Slots<T> {
    places: Vec<Place<T>>,
    /// In the order of time, since all rest equally long.
    resting: VecDeque<(Instant, Slot)>,
    rest: Duration,
    capacity: usize,
}

#[derive(Clone, Debug)]
struct Place<T> {
    slot: Slot,
    holder: Option<T>,
}

impl<T> Slots<T> {
    /// At most `capacity` slots (and never more than [`Slot::MAX_SLOTS`]), resting ones included, which rest for `rest`.
    pub fn new(rest: Duration, capacity: usize) -> Self {
        Self { places: Vec::new(), resting: VecDeque::new(), rest, capacity: capacity.min(Slot::MAX_SLOTS) }
    }

    /// Gives a slot to `holder`; `None` if all are held.
    pub fn allocate(&mut self, now: Instant, holder: T) -> Option<Slot> {
        let is_full = self.places.len() >= self.capacity;
        if self.resting.front().is_some_and(|(until, _)| *until <= now || is_full) {
            let (_, slot) = self.resting.pop_front()?;
            let place = self.places.get_mut(usize::from(slot.index()))?;
            *place = Place { slot, holder: Some(holder) };
            return Some(slot);
        }
        if is_full {
            return None;
        }
        let slot = Slot::new(u16::try_from(self.places.len()).ok()?, 0)?;
        self.places.push(Place { slot, holder: Some(holder) });
        Some(slot)
    }

    /// What is kept for the holder of exactly this slot, generation included.
    pub fn get(&self, slot: Slot) -> Option<&T> {
        let place = self.places.get(usize::from(slot.index()))?;
        if place.slot == slot { place.holder.as_ref() } else { None }
    }

    /// As [`get`](Self::get), to change it.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        let place = self.places.get_mut(usize::from(slot.index()))?;
        if place.slot == slot { place.holder.as_mut() } else { None }
    }

    /// Takes the slot back and returns what was kept for its holder; `None` if nobody held it.
    pub fn release(&mut self, now: Instant, slot: Slot) -> Option<T> {
        let place = self.places.get_mut(usize::from(slot.index()))?;
        let holder = if place.slot == slot { place.holder.take() } else { None }?;
        self.resting.push_back((now + self.rest, slot.next_generation()));
        Some(holder)
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.places.len() - self.resting.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::epoch;

    const REST: Duration = Duration::from_secs(120);

    #[test]
    fn a_slot_rests_before_its_next_generation() {
        let start = epoch();
        let mut slots = Slots::new(REST, 3);
        let first = slots.allocate(start, 'a').unwrap();
        assert_eq!(slots.release(start, first), Some('a'));
        assert_eq!(slots.release(start, first), None);
        assert_eq!(slots.get(first), None);
        let other = slots.allocate(start + REST - Duration::from_nanos(1), 'b').unwrap();
        assert_ne!(other.index(), first.index());
        let second = slots.allocate(start + REST, 'c').unwrap();
        assert_eq!((second.index(), second.generation()), (first.index(), first.generation() + 1));
        assert_eq!((slots.get(first), slots.get(second)), (None, Some(&'c')));
        assert_eq!(slots.release(start + REST, first), None);
        assert_eq!(slots.len(), 2);
    }

    #[test]
    fn when_none_is_left_the_one_that_rested_longest_is_used() {
        let start = epoch();
        let mut slots = Slots::new(REST, 2);
        let held = slots.allocate(start, 'a').unwrap();
        let mut last = None;
        for round in 0..20u64 {
            let slot = slots.allocate(start + Duration::from_millis(round), 'b').unwrap();
            assert_ne!(Some(slot), last);
            assert_eq!(slots.allocate(start + Duration::from_millis(round), 'c'), None, "both are held");
            slots.release(start + Duration::from_millis(round), slot);
            last = Some(slot);
        }
        assert_eq!(slots.get(held), Some(&'a'));
    }

    #[test]
    fn generations_come_round() {
        let mut now = epoch();
        let mut slots = Slots::new(REST, 1);
        for generation in (0..Slot::GENERATIONS).chain([0]) {
            let slot = slots.allocate(now, ()).unwrap();
            assert_eq!(slot.generation(), generation);
            slots.release(now, slot);
            now += REST;
        }
    }

    #[test]
    fn the_capacity_bounds_held_and_resting_slots_and_spares_the_server_s_own() {
        let start = epoch();
        let mut slots = Slots::new(REST, usize::MAX);
        let mut last = None;
        while let Some(slot) = slots.allocate(start, ()) {
            last = Some(slot);
        }
        assert_eq!(slots.len(), Slot::MAX_SLOTS);
        assert!(!last.unwrap().is_server());
        slots.release(start, last.unwrap());
        assert_eq!(slots.len(), Slot::MAX_SLOTS - 1);
        assert!(slots.allocate(start, ()).is_some());
        assert_eq!(slots.allocate(start, ()), None);
        assert_eq!(slots.get(Slot::SERVER), None);
    }
}
