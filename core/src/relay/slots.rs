//! Which node holds which slot of a server.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::Slot;

/// The slots of a server and what it keeps for their holders. A slot that was given back rests before it is used again,
/// under the next generation.
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
    /// At most `capacity` slots (and never more than [`Slot::MAX_SLOTS`]), resting ones included.
    pub fn new(rest: Duration, capacity: usize) -> Self {
        Self { places: Vec::new(), resting: VecDeque::new(), rest, capacity: capacity.min(Slot::MAX_SLOTS) }
    }

    /// Gives a slot to `holder`; `None` if all are held or resting.
    pub fn allocate(&mut self, now: Instant, holder: T) -> Option<Slot> {
        if let Some(slot) = self.rested(now) {
            let place = self.places.get_mut(usize::from(slot.index()))?;
            *place = Place { slot, holder: Some(holder) };
            return Some(slot);
        }
        if self.places.len() >= self.capacity {
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

    fn rested(&mut self, now: Instant) -> Option<Slot> {
        let (at, _) = self.resting.front()?;
        if *at > now {
            return None;
        }
        self.resting.pop_front().map(|(_, slot)| slot)
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
        let mut slots = Slots::new(REST, 1);
        let first = slots.allocate(start, 'a').unwrap();
        assert_eq!(slots.allocate(start, 'b'), None);
        assert_eq!(slots.release(start, first), Some('a'));
        assert_eq!(slots.release(start, first), None);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.allocate(start + REST - Duration::from_nanos(1), 'b'), None);
        let second = slots.allocate(start + REST, 'b').unwrap();
        assert_eq!((second.index(), second.generation()), (first.index(), first.generation() + 1));
        assert_eq!((slots.get(first), slots.get(second)), (None, Some(&'b')));
        assert_eq!(slots.release(start + REST, first), None);
        assert_eq!(slots.len(), 1);
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
        assert_eq!(slots.allocate(start, ()), None);
        assert_eq!(slots.get(Slot::SERVER), None);
    }
}
