//! The Master and the members of the cluster.

use std::fmt;

use p2pcore::{
    Id,
    master::{Kind, MasterView, MemberInfo, Token},
};
use serde::Serialize;

/// Who is the Master, in the event and in the status.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct MasterLine {
    id: Option<Id>,
    kind: Option<&'static str>,
    token: Option<Token>,
    reason: Option<NoQuorumLine>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct NoQuorumLine {
    code: &'static str,
    need: u32,
    have: u32,
}

impl From<MasterView> for MasterLine {
    fn from(view: MasterView) -> Self {
        let no_quorum = |reason: p2pcore::master::NoQuorum| NoQuorumLine {
            code: "no_quorum",
            need: reason.need,
            have: reason.have,
        };
        Self {
            id: view.master(),
            kind: view.kind().map(Kind::as_str),
            token: view.token(),
            reason: view.reason().map(no_quorum),
        }
    }
}

/// For humans.
impl fmt::Display for MasterLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { token: Some(token), .. } if token.kind == Kind::Provisional => {
                write!(f, "{} shows itself as Master: provisional, without a guard", token.id)
            }
            Self { token: Some(token), .. } => write!(f, "{} is Master", token.id),
            Self { reason: Some(NoQuorumLine { need, have, .. }), .. } => {
                write!(f, "no Master: {need} voters are needed, {have} of them seen")
            }
            _ => f.write_str("no Master is known"),
        }
    }
}

/// A committed member.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct MemberRow {
    id: Id,
    voter: bool,
}

impl From<&MemberInfo> for MemberRow {
    fn from(member: &MemberInfo) -> Self {
        Self { id: member.id, voter: member.is_voter }
    }
}

/// The answer to `members`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct MembersLine<'a> {
    event: &'static str,
    #[serde(rename = "ref")]
    reference: Option<&'a str>,
    /// Who answers.
    id: Id,
    /// From the oldest on.
    members: Vec<MemberRow>,
    master: Option<MasterLine>,
}

impl<'a> MembersLine<'a> {
    pub(crate) fn new(reference: Option<&'a str>, id: Id, members: &[MemberInfo], master: Option<MasterView>) -> Self {
        let members = members.iter().map(MemberRow::from).collect();
        Self { event: "members", reference, id, members, master: master.map(MasterLine::from) }
    }
}

#[cfg(test)]
mod tests {
    use p2pcore::{Identity, Role, SecretKey, master::NoQuorum};

    use super::{super::line, *};

    fn token(kind: Kind) -> Token {
        let id = Identity::new(Role::Server, SecretKey::from_bytes([1; 32])).id();
        Token { generation: 1, kind, term: 2, id }
    }

    #[test]
    fn a_master_has_the_keys_of_the_contract() {
        for kind in [Kind::Elected, Kind::Provisional] {
            let token = token(kind);
            let text = format!(r#"{{"id":"{}","kind":"{}","token":"{token}","reason":null}}"#, token.id, kind.as_str());
            assert_eq!(line(&MasterLine::from(MasterView::Master(token))), text + "\n");
        }
        let none = |reason| line(&MasterLine::from(MasterView::NoMaster(reason)));
        assert_eq!(none(None), "{\"id\":null,\"kind\":null,\"token\":null,\"reason\":null}\n");
        let reason = r#"{"code":"no_quorum","need":3,"have":2}"#;
        let text = format!("{{\"id\":null,\"kind\":null,\"token\":null,\"reason\":{reason}}}\n");
        assert_eq!(none(Some(NoQuorum { need: 3, have: 2 })), text);
    }

    #[test]
    fn members_stand_as_they_are_with_the_master() {
        let token = token(Kind::Elected);
        let id = token.id;
        let members = [MemberInfo { id, is_voter: true }, MemberInfo { id, is_voter: false }];
        let rows = format!(r#"[{{"id":"{id}","voter":true}},{{"id":"{id}","voter":false}}]"#);
        let start = format!(r#"{{"event":"members","ref":"r","id":"{id}","members":"#);
        let shown = line(&MembersLine::new(Some("r"), id, &members, None));
        assert_eq!(shown, format!("{start}{rows},\"master\":null}}\n"));
        let shown = line(&MembersLine::new(Some("r"), id, &[], Some(MasterView::Master(token))));
        assert!(shown.contains(&format!(r#""master":{{"id":"{id}","#)), "{shown}");
    }

    #[test]
    fn humans_learn_who_it_is_or_what_is_missing() {
        let text = |view: MasterView| MasterLine::from(view).to_string();
        let elected = token(Kind::Elected);
        assert_eq!(text(MasterView::Master(elected)), format!("{} is Master", elected.id));
        assert!(text(MasterView::Master(token(Kind::Provisional))).contains("provisional"));
        let none = text(MasterView::NoMaster(Some(NoQuorum { need: 2, have: 1 })));
        assert_eq!(none, "no Master: 2 voters are needed, 1 of them seen");
        assert_eq!(text(MasterView::NoMaster(None)), "no Master is known");
    }
}
