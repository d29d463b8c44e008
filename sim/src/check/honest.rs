//! Honest traffic beside a flood: it keeps at least nine tenths of its rate, and nothing of what it rests on is lost.

use std::time::Duration;

use p2pcore::{Event, Id};

use super::Breach;

/// What some honest pair sends at a fixed pace, each message of use for a short time only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// Messages offered, accepted or not.
    pub offered: u64,
    /// Those delivered within their time.
    pub in_time: u64,
}

impl Rate {
    /// One more was offered.
    pub fn add(&mut self, in_time: bool) {
        self.offered += 1;
        self.in_time += u64::from(in_time);
    }

    const fn per_thousand(&self) -> u64 {
        match (self.in_time * 1_000).checked_div(self.offered) {
            Some(rate) => rate,
            None => 0,
        }
    }
}

/// Judges the traffic of a pair during a flood by the same traffic without it.
///
/// # Errors
/// Less than nine tenths came in time.
pub fn keeps_its_rate(pair: [Id; 2], without: Rate, with: Rate) -> Result<(), Breach> {
    if with.per_thousand() * 10 >= without.per_thousand() * 9 && with.offered > 0 {
        return Ok(());
    }
    let what = format!(
        "{} of {} in time, without a flood {} of {}",
        with.in_time, with.offered, without.in_time, without.offered
    );
    Err(Breach::new("honest_rate", pair, what))
}

/// What no honest node may be told of others during a flood: `is_honest` says of whom.
///
/// # Errors
/// A link or the office of Master was lost.
pub fn keeps_its_links(me: Id, at: Duration, event: &Event, is_honest: impl Fn(&Id) -> bool) -> Result<(), Breach> {
    let lost = match event {
        Event::ServerDown { id, .. } | Event::PeerDown { id, .. } => is_honest(id),
        Event::Suspended | Event::DuplicateIdentity { .. } | Event::Master(_) => true,
        _ => false,
    };
    match lost {
        true => Err(Breach::new("honest_links", [me], format!("at {at:?}: {event:?}"))),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use p2pcore::Name;

    use super::*;
    use crate::check::testing::id;

    fn rate(offered: u64, in_time: u64) -> Rate {
        Rate { offered, in_time }
    }

    #[test]
    fn nine_tenths_of_the_rate_are_owed() {
        let pair = [id(1), id(2)];
        assert!(keeps_its_rate(pair, rate(100, 100), rate(100, 90)).is_ok());
        assert_eq!(keeps_its_rate(pair, rate(100, 100), rate(100, 89)).unwrap_err().checker, "honest_rate");
        assert!(keeps_its_rate(pair, rate(100, 50), rate(200, 95)).is_ok());
        assert!(keeps_its_rate(pair, rate(100, 100), rate(0, 0)).is_err(), "nothing offered is nothing kept");
        let mut one = Rate::default();
        one.add(true);
        one.add(false);
        assert_eq!(one, rate(2, 1));
    }

    #[test]
    fn a_lost_link_or_office_is_seen_and_that_of_a_flooder_is_not() {
        let down = Event::PeerDown { id: id(2), name: Name::default() };
        let judge = |event: &Event| keeps_its_links(id(1), Duration::ZERO, event, |other| *other == id(2));
        assert_eq!(judge(&down).unwrap_err().checker, "honest_links");
        assert_eq!(judge(&Event::Suspended).unwrap_err().checker, "honest_links");
        assert!(judge(&Event::PeerDown { id: id(3), name: Name::default() }).is_ok());
        assert!(judge(&Event::Resumed).is_ok());
    }
}
