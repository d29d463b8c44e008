//! Events, and the answers to commands.

use std::{fmt, net::SocketAddr};

use base64::{Engine, prelude::BASE64_STANDARD};
use p2pcore::{Id, Reason, Role};
use serde::{Serialize, Serializer};

use super::master::MasterLine;

/// What happened, for everybody who listens.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum EventLine<'a> {
    Ready {
        id: Id,
        #[serde(serialize_with = "text")]
        role: Role,
        name: &'a str,
        listen: &'a [SocketAddr],
    },
    ServerUp {
        id: Id,
        name: &'a str,
    },
    ServerDown {
        id: Id,
        name: &'a str,
    },
    PeerUp {
        id: Id,
        name: &'a str,
    },
    PeerDown {
        id: Id,
        name: &'a str,
    },
    /// Who is there of those whom a client began to watch, by Id or by name.
    Found {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<&'a str>,
        ids: &'a [Id],
    },
    Path {
        id: Id,
        kind: &'static str,
        via: Option<Id>,
    },
    Message {
        from: Id,
        #[serde(serialize_with = "text")]
        role: Role,
        name: &'a str,
        lane: u8,
        #[serde(flatten)]
        data: Payload<'a>,
    },
    Request {
        from: Id,
        #[serde(serialize_with = "text")]
        role: Role,
        name: &'a str,
        rid: u64,
        #[serde(flatten)]
        data: Payload<'a>,
    },
    Master(MasterLine),
    /// This server is no member of its cluster any more.
    Left,
    Suspended,
    Resumed,
    DuplicateIdentity {
        id: Id,
        addresses: &'a [SocketAddr],
    },
    Error {
        #[serde(rename = "ref")]
        reference: Option<&'a str>,
        reason: String,
    },
}

/// The answer to a command, for its sender alone.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Answer<'a> {
    event: &'static str,
    #[serde(rename = "ref")]
    reference: Option<&'a str>,
    /// Null for the Master where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Option<Id>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "some_text")]
    reason: Option<Reason>,
    #[serde(flatten)]
    data: Option<Payload<'a>>,
}

impl<'a> Answer<'a> {
    const fn new(event: &'static str, reference: Option<&'a str>) -> Self {
        Self { event, reference, to: None, from: None, reason: None, data: None }
    }

    pub(crate) const fn delivered(reference: Option<&'a str>, to: Id) -> Self {
        Self { to: Some(Some(to)), ..Self::new("delivered", reference) }
    }

    pub(crate) const fn expired(reference: Option<&'a str>, to: Id) -> Self {
        Self { to: Some(Some(to)), ..Self::new("expired", reference) }
    }

    pub(crate) const fn failed(reference: Option<&'a str>, to: Option<Id>, reason: Reason) -> Self {
        Self { to: Some(to), reason: Some(reason), ..Self::new("failed", reference) }
    }

    pub(crate) const fn reply(reference: Option<&'a str>, from: Id, data: &'a [u8]) -> Self {
        Self { from: Some(from), data: Some(Payload(data)), ..Self::new("reply", reference) }
    }

    /// A change of the members is under way.
    pub(crate) const fn accepted(reference: Option<&'a str>) -> Self {
        Self::new("accepted", reference)
    }
}

/// Bytes: `data` if they are UTF-8, else `data_base64`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload<'a>(pub(crate) &'a [u8]);

impl Serialize for Payload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.collect_map([("data", text)]),
            Err(_) => serializer.collect_map([("data_base64", BASE64_STANDARD.encode(self.0))]),
        }
    }
}

/// For humans: no character that would move the cursor.
impl fmt::Display for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(self.0) {
            Ok(text) => text.chars().try_for_each(|char| match char {
                char if char.is_control() => write!(f, "{}", char.escape_default()),
                char => write!(f, "{char}"),
            }),
            Err(_) => write!(f, "{} bytes", self.0.len()),
        }
    }
}

/// For humans.
impl fmt::Display for EventLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { id, role, name, listen } => {
                let listen = listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                write!(f, "{role} {} ready on {listen}", Named(*id, name))
            }
            Self::ServerUp { id, name } => write!(f, "linked to server {}", Named(*id, name)),
            Self::ServerDown { id, name } => write!(f, "lost the link to server {}", Named(*id, name)),
            Self::PeerUp { id, name } => write!(f, "peer {} is there", Named(*id, name)),
            Self::PeerDown { id, name } => write!(f, "peer {} is gone", Named(*id, name)),
            Self::Found { id, name, ids } => {
                let what = id.map(|id| id.to_string()).or(name.map(ToOwned::to_owned)).unwrap_or_default();
                let ids = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                match ids.is_empty() {
                    true => write!(f, "watching {what}: nobody is there"),
                    false => write!(f, "watching {what}: {ids} is there"),
                }
            }
            Self::Path { id, kind, via: None } => write!(f, "path to {id}: {kind}"),
            Self::Path { id, kind, via: Some(via) } => write!(f, "path to {id}: {kind} via {via}"),
            Self::Message { from, name, data, .. } => write!(f, "{}: {data}", Named(*from, name)),
            Self::Request { from, name, rid, data, .. } => {
                write!(f, "{} asks (request {rid}): {data}", Named(*from, name))
            }
            Self::Master(master) => write!(f, "{master}"),
            Self::Left => f.write_str("this server is no member of its cluster any more: it stops"),
            Self::Suspended => f.write_str("suspended: no server is reachable"),
            Self::Resumed => f.write_str("resumed: a server is reachable again"),
            Self::DuplicateIdentity { id, addresses } => {
                let addresses = addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
                write!(f, "the key of {id} is used by two running nodes: {addresses}")
            }
            Self::Error { reason, .. } => f.write_str(reason),
        }
    }
}

struct Named<'a>(Id, &'a str);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            "" => write!(f, "{}", self.0),
            name => write!(f, "{name} ({})", self.0),
        }
    }
}

fn text<S: Serializer>(value: &impl fmt::Display, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn some_text<S: Serializer>(value: &Option<impl fmt::Display>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use p2pcore::{Identity, SecretKey, master::MasterView};

    use super::{super::line, *};

    fn id(role: Role) -> Id {
        Identity::new(role, SecretKey::from_bytes([1; 32])).id()
    }

    #[test]
    fn events_have_the_names_of_the_contract() {
        let (peer, server) = (id(Role::Peer), id(Role::Server));
        let listen = ["127.0.0.1:9".parse().unwrap(), "[::1]:9".parse().unwrap()];
        let name = "n";
        for (event, text) in [
            (
                EventLine::Ready { id: peer, role: Role::Peer, name, listen: &listen },
                format!(
                    r#"{{"event":"ready","id":"{peer}","role":"peer","name":"n","listen":["127.0.0.1:9","[::1]:9"]}}"#
                ),
            ),
            (
                EventLine::ServerUp { id: server, name },
                format!(r#"{{"event":"server_up","id":"{server}","name":"n"}}"#),
            ),
            (
                EventLine::ServerDown { id: server, name },
                format!(r#"{{"event":"server_down","id":"{server}","name":"n"}}"#),
            ),
            (
                EventLine::Found { id: None, name: Some(name), ids: &[peer] },
                format!(r#"{{"event":"found","name":"n","ids":["{peer}"]}}"#),
            ),
            (EventLine::PeerUp { id: peer, name }, format!(r#"{{"event":"peer_up","id":"{peer}","name":"n"}}"#)),
            (EventLine::PeerDown { id: peer, name }, format!(r#"{{"event":"peer_down","id":"{peer}","name":"n"}}"#)),
            (
                EventLine::Path { id: peer, kind: "relayed", via: Some(server) },
                format!(r#"{{"event":"path","id":"{peer}","kind":"relayed","via":"{server}"}}"#),
            ),
            (
                EventLine::Path { id: peer, kind: "direct", via: None },
                format!(r#"{{"event":"path","id":"{peer}","kind":"direct","via":null}}"#),
            ),
            (
                EventLine::Message { from: server, role: Role::Server, name, lane: 2, data: Payload("hé".as_bytes()) },
                format!(r#"{{"event":"message","from":"{server}","role":"server","name":"n","lane":2,"data":"hé"}}"#),
            ),
            (
                EventLine::Request { from: peer, role: Role::Peer, name, rid: 7, data: Payload(&[255, 0]) },
                format!(
                    r#"{{"event":"request","from":"{peer}","role":"peer","name":"n","rid":7,"data_base64":"/wA="}}"#
                ),
            ),
            (
                EventLine::Master(MasterView::NoMaster(None).into()),
                r#"{"event":"master","id":null,"kind":null,"token":null,"reason":null}"#.into(),
            ),
            (EventLine::Left, r#"{"event":"left"}"#.into()),
            (EventLine::Suspended, r#"{"event":"suspended"}"#.into()),
            (EventLine::Resumed, r#"{"event":"resumed"}"#.into()),
            (
                EventLine::DuplicateIdentity { id: peer, addresses: &listen },
                format!(r#"{{"event":"duplicate_identity","id":"{peer}","addresses":["127.0.0.1:9","[::1]:9"]}}"#),
            ),
            (
                EventLine::Error { reference: None, reason: "why".into() },
                r#"{"event":"error","ref":null,"reason":"why"}"#.into(),
            ),
        ] {
            assert_eq!(line(&event), format!("{text}\n"));
        }
    }

    #[test]
    fn answers_repeat_the_ref() {
        let to = id(Role::Peer);
        for (answer, text) in [
            (Answer::delivered(Some("a"), to), format!(r#"{{"event":"delivered","ref":"a","to":"{to}"}}"#)),
            (Answer::expired(None, to), format!(r#"{{"event":"expired","ref":null,"to":"{to}"}}"#)),
            (
                Answer::failed(Some("a"), Some(to), Reason::UnknownOutcome),
                format!(r#"{{"event":"failed","ref":"a","to":"{to}","reason":"unknown_outcome"}}"#),
            ),
            (
                Answer::failed(Some("a"), None, Reason::NoMaster),
                r#"{"event":"failed","ref":"a","to":null,"reason":"no_master"}"#.into(),
            ),
            (Answer::accepted(Some("a")), r#"{"event":"accepted","ref":"a"}"#.into()),
            (Answer::reply(Some("a"), to, b"x"), format!(r#"{{"event":"reply","ref":"a","from":"{to}","data":"x"}}"#)),
        ] {
            assert_eq!(line(&answer), format!("{text}\n"));
        }
    }

    #[test]
    fn a_message_cannot_move_the_cursor_of_a_human() {
        assert_eq!(Payload(b"a\x1b[2J\nb").to_string(), "a\\u{1b}[2J\\nb");
        assert_eq!(Payload(&[255; 3]).to_string(), "3 bytes");
    }
}
