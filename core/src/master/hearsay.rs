//! The Master as a node sees it that is no server: it believes the servers that it is linked to.

use std::collections::BTreeMap;

use super::{Kind, MasterView, Token, limits::MAX_LINKS};
use crate::id::Id;

/// What the linked servers last said about the Master, and what follows from that.
#[derive(Clone, Debug, Default)]
pub struct Hearsay {
    told: BTreeMap<Id, MasterView>,
    /// The highest Elected token that was ever shown.
    highest: Option<Token>,
}

impl Hearsay {
    /// `server` tells its view. Returns the own one if that changed.
    pub fn told(&mut self, server: Id, view: MasterView) -> Option<MasterView> {
        let before = self.view();
        if self.told.len() < MAX_LINKS || self.told.contains_key(&server) {
            self.told.insert(server, view);
        }
        self.changed_since(before)
    }

    /// What `server` said last.
    pub fn word_of(&self, server: &Id) -> Option<MasterView> {
        self.told.get(server).copied()
    }

    /// The link to `server` is lost. Returns the own view if that changed.
    pub fn unlinked(&mut self, server: &Id) -> Option<MasterView> {
        let before = self.view();
        self.told.remove(server);
        self.changed_since(before)
    }

    /// The other servers that show a Master which `server` does not show, or no longer.
    pub fn contradicting(&self, server: &Id) -> impl Iterator<Item = Id> {
        let token = self.told.get(server).and_then(MasterView::token);
        self.told.iter().filter(move |(_, view)| view.token() > token).map(|(id, _)| *id)
    }

    /// The highest token that a linked server shows, unless a higher Elected one was shown before: then the servers that
    /// know that one are out of reach, and there is no Master to be shown.
    pub fn view(&self) -> MasterView {
        let is_past = |token: &Token| match (token.kind, self.highest) {
            (_, None) => false,
            (Kind::Elected, Some(highest)) => *token < highest,
            (Kind::Provisional, Some(highest)) => token.generation < highest.generation,
        };
        let token = self.told.values().filter_map(MasterView::token).filter(|token| !is_past(token)).max();
        let reason = || self.told.values().filter_map(MasterView::reason).max_by_key(|reason| reason.have);
        token.map_or_else(|| MasterView::NoMaster(reason()), MasterView::Master)
    }

    fn changed_since(&mut self, before: MasterView) -> Option<MasterView> {
        let view = self.view();
        self.highest = self.highest.max(view.token().filter(|token| token.kind == Kind::Elected));
        (view != before).then_some(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::{NoQuorum, tests::server};

    fn view(kind: Kind, term: u64) -> MasterView {
        MasterView::Master(Token { generation: 1, kind, term, id: server(1) })
    }

    #[test]
    fn the_highest_token_of_the_linked_servers_is_shown() {
        let mut hearsay = Hearsay::default();
        assert_eq!(hearsay.told(server(1), view(Kind::Elected, 3)), Some(view(Kind::Elected, 3)));
        assert_eq!(hearsay.told(server(2), view(Kind::Elected, 2)), None);
        assert_eq!(hearsay.told(server(3), view(Kind::Provisional, 9)), None);
        assert_eq!(hearsay.told(server(2), view(Kind::Elected, 4)), Some(view(Kind::Elected, 4)));
    }

    #[test]
    fn those_who_show_another_master_are_named() {
        let mut hearsay = Hearsay::default();
        hearsay.told(server(1), view(Kind::Elected, 3));
        hearsay.told(server(2), view(Kind::Elected, 3));
        hearsay.told(server(3), MasterView::NoMaster(None));
        assert!(hearsay.contradicting(&server(3)).eq([server(1), server(2)]));
        hearsay.told(server(2), view(Kind::Elected, 4));
        assert_eq!(hearsay.contradicting(&server(2)).next(), None);
        assert!(hearsay.contradicting(&server(1)).eq([server(2)]));
    }

    #[test]
    fn a_lower_token_never_follows_a_higher_one_and_a_lost_master_is_shown_as_lost() {
        let mut hearsay = Hearsay::default();
        hearsay.told(server(1), view(Kind::Elected, 3));
        hearsay.told(server(2), view(Kind::Elected, 2));
        assert_eq!(hearsay.unlinked(&server(1)), Some(MasterView::NoMaster(None)));
        assert_eq!(hearsay.told(server(2), view(Kind::Elected, 3)), Some(view(Kind::Elected, 3)));
        let reason = Some(NoQuorum { need: 3, have: 2 });
        assert_eq!(hearsay.told(server(2), MasterView::NoMaster(reason)), Some(MasterView::NoMaster(reason)));
        assert_eq!(hearsay.told(server(2), view(Kind::Provisional, 3)), Some(view(Kind::Provisional, 3)));
    }
}
