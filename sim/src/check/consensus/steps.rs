//! Terms, commit indexes and tokens never fall while a server runs.

use std::collections::BTreeMap;

use p2pcore::{Id, master::Token};

use super::Line;
use crate::check::{Breach, Run};

/// How far each run has come.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    runs: BTreeMap<(Run, Line), (u64, u64)>,
    tokens: BTreeMap<Run, Token>,
}

impl Steps {
    /// A server is in `term` and knows that all up to `commit` is committed.
    ///
    /// # Errors
    /// It was further before.
    pub fn at(&mut self, run: Run, id: Id, line: Line, term: u64, commit: u64) -> Result<(), Breach> {
        let before = self.runs.insert((run, line), (term, commit)).unwrap_or_default();
        let what = || format!("term {term} and commit {commit} after term {} and commit {}", before.0, before.1);
        let has_fallen = term < before.0 || commit < before.1;
        if has_fallen { Err(Breach::new("no_step_back", [id], what())) } else { Ok(()) }
    }

    /// A server acts as Master.
    ///
    /// # Errors
    /// It did so under a higher token before.
    pub fn acts(&mut self, run: Run, token: Token) -> Result<(), Breach> {
        let before = self.tokens.insert(run, token).unwrap_or(token);
        let what = || format!("acts under {token:?} after {before:?}");
        if token < before { Err(Breach::new("no_step_back", [token.id], what())) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{line, server, token},
        *,
    };

    const RUN: Run = Run { process: 0, run: 1 };

    #[test]
    fn a_term_a_commit_index_or_a_token_that_falls_is_seen() {
        let mut steps = Steps::default();
        assert_eq!(steps.at(RUN, server(1), line(), 1, 5), Ok(()));
        assert_eq!(steps.at(RUN, server(1), line(), 2, 5), Ok(()));
        assert!(steps.clone().at(RUN, server(1), line(), 1, 6).is_err());
        assert!(steps.clone().at(RUN, server(1), line(), 3, 4).is_err());
        assert_eq!(steps.at(Run { run: 2, ..RUN }, server(1), line(), 1, 1), Ok(()), "a restart begins anew");
        assert_eq!(steps.at(RUN, server(1), Line { generation: 2, ..line() }, 0, 1), Ok(()));
        assert_eq!(steps.acts(RUN, token(2, 1)), Ok(()));
        assert_eq!(steps.acts(RUN, token(1, 1)).unwrap_err().checker, "no_step_back");
    }
}
