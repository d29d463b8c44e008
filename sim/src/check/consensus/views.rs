//! What nodes show: no Elected Master after a later one, and a Provisional one never of an earlier generation.

use std::collections::BTreeMap;

use p2pcore::{
    Id,
    master::{Kind, MasterView, Token},
};

use crate::check::{Breach, Run};

/// The highest Elected token that each run has shown.
#[derive(Clone, Debug, Default)]
pub struct Views {
    highest: BTreeMap<Run, Token>,
}

impl Views {
    /// A node shows who is the Master.
    ///
    /// # Errors
    /// It showed a later one before.
    pub fn shown(&mut self, run: Run, id: Id, view: MasterView) -> Result<(), Breach> {
        let Some(token) = view.token() else { return Ok(()) };
        let highest = *self.highest.get(&run).unwrap_or(&token);
        let is_past = match token.kind {
            Kind::Elected => token < highest,
            Kind::Provisional => token.generation < highest.generation,
        };
        if is_past {
            return Err(Breach::new("views_in_order", [id, token.id], format!("shows {token:?} after {highest:?}")));
        }
        if token.kind == Kind::Elected {
            self.highest.insert(run, token);
        }
        Ok(())
    }
}

/// A server shows itself as Provisional.
///
/// # Errors
/// It is not one of two members, or a peer that is linked to it reports a link to the other one.
pub fn provisional(id: Id, members: usize, is_vetoed: bool) -> Result<(), Breach> {
    match (members, is_vetoed) {
        (2, false) => Ok(()),
        (2, true) => Err(Breach::new("provisional", [id], "Provisional, though a peer sees the older member")),
        _ => Err(Breach::new("provisional", [id], format!("Provisional among {members} members"))),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{server, token},
        *,
    };

    const RUN: Run = Run { process: 0, run: 1 };

    #[test]
    fn an_earlier_master_after_a_later_one_is_seen() {
        let mut views = Views::default();
        let mut show = |token: Token| views.shown(RUN, server(9), MasterView::Master(token));
        let provisional = |generation| Token { generation, kind: Kind::Provisional, ..token(0, 1) };
        assert_eq!(show(provisional(1)), Ok(()));
        assert_eq!(show(token(3, 1)), Ok(()));
        assert_eq!(show(provisional(1)), Ok(()), "while there is no Elected one");
        assert_eq!(show(token(3, 1)), Ok(()));
        assert_eq!(show(token(2, 2)).unwrap_err().checker, "views_in_order");
        assert_eq!(show(Token { generation: 2, ..token(1, 1) }), Ok(()));
        assert_eq!(show(provisional(1)).unwrap_err().checker, "views_in_order");
        assert_eq!(views.shown(RUN, server(9), MasterView::NoMaster(None)), Ok(()));
        assert_eq!(views.shown(Run { run: 2, ..RUN }, server(9), MasterView::Master(token(1, 1))), Ok(()));
    }

    #[test]
    fn provisional_is_for_the_last_of_two_without_a_veto() {
        assert!(provisional(server(1), 2, false).is_ok());
        assert!(provisional(server(1), 3, false).is_err() && provisional(server(1), 2, true).is_err());
    }
}
