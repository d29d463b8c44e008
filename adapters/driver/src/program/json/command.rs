//! Commands: unknown keys are ignored, a bad line harms nothing.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use p2pcore::{
    Id, Name,
    node::{MemberCommand, SendOptions, Watch},
};
use serde::Deserialize;
use serde_json::Value;

/// What the line orders.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Send { to: Vec<Id>, data: Bytes, options: SendOptions },
    SendMaster { data: Bytes, options: SendOptions },
    Request { to: Id, data: Bytes, timeout: Option<Duration> },
    Reply { rid: u64, data: Bytes },
    Watch(Watch),
    Unwatch(Watch),
    Status,
    Members,
    ChangeMembers(MemberCommand),
    Quit,
}

/// All of them, for who asks for another one.
const KNOWN: &str = "send, send_master, request, reply, watch, unwatch, status, members, members_leave, members_remove, \
                     members_transfer, members_force_new_cluster, quit";

/// Reads one line into its `ref` and the command, or the reason why there is none.
pub(crate) fn parse(line: &[u8]) -> (Option<String>, Result<Command, String>) {
    match serde_json::from_slice::<Raw>(line) {
        Ok(mut raw) => (raw.reference.take(), raw.command()),
        Err(error) => {
            let reference = serde_json::from_slice::<OnlyRef>(line).ok().and_then(|line| line.reference);
            (reference, Err(format!("bad line: {error}")))
        }
    }
}

#[derive(Deserialize)]
struct OnlyRef {
    #[serde(rename = "ref")]
    reference: Option<String>,
}

#[derive(Deserialize)]
struct Raw {
    /// `cmd` is its short form.
    #[serde(alias = "cmd")]
    command: String,
    #[serde(rename = "ref")]
    reference: Option<String>,
    to: Option<To>,
    data: Option<String>,
    data_base64: Option<String>,
    lane: Option<u8>,
    ttl_ms: Option<u64>,
    timeout_ms: Option<u64>,
    rid: Option<u64>,
    /// Read by those commands alone that have it.
    id: Option<Value>,
    name: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`to` is not an Id or a list of Ids")]
enum To {
    One(Id),
    Many(Vec<Id>),
}

impl Raw {
    fn command(self) -> Result<Command, String> {
        match self.command.as_str() {
            "send" => {
                let options = self.options();
                let to = match self.to {
                    Some(To::One(id)) => vec![id],
                    Some(To::Many(ids)) => ids,
                    None => return Err("`send` needs `to`: a list of Ids".into()),
                };
                Ok(Command::Send { to, data: data("send", self.data, self.data_base64)?, options })
            }
            "send_master" => {
                let options = self.options();
                Ok(Command::SendMaster { data: data("send_master", self.data, self.data_base64)?, options })
            }
            "request" => {
                let to = match self.to {
                    Some(To::One(id)) => id,
                    Some(To::Many(_)) | None => return Err("`request` needs `to`: one Id".into()),
                };
                let timeout = self.timeout_ms.map(Duration::from_millis);
                Ok(Command::Request { to, data: data("request", self.data, self.data_base64)?, timeout })
            }
            "reply" => {
                let rid = self.rid.ok_or("`reply` needs `rid`: that of the request")?;
                Ok(Command::Reply { rid, data: data("reply", self.data, self.data_base64)? })
            }
            "watch" => Ok(Command::Watch(self.watched()?)),
            "unwatch" => Ok(Command::Unwatch(self.watched()?)),
            "status" => Ok(Command::Status),
            "members" => Ok(Command::Members),
            "members_leave" => Ok(Command::ChangeMembers(MemberCommand::Leave)),
            "members_remove" => Ok(Command::ChangeMembers(MemberCommand::Remove(self.member()?))),
            "members_transfer" => Ok(Command::ChangeMembers(MemberCommand::Transfer(self.member()?))),
            "members_force_new_cluster" => Ok(Command::ChangeMembers(MemberCommand::ForceNewCluster)),
            "quit" => Ok(Command::Quit),
            other => Err(format!("there is no command `{}`: the commands are {KNOWN}", other.escape_debug())),
        }
    }

    fn options(&self) -> SendOptions {
        let options = SendOptions::default().lane(self.lane.unwrap_or_default());
        self.ttl_ms.map_or(options, |ttl| options.ttl(Duration::from_millis(ttl)))
    }

    fn watched(&self) -> Result<Watch, String> {
        let text = |value: &Option<Value>| value.as_ref().and_then(Value::as_str).map(str::to_owned);
        match (text(&self.id), text(&self.name)) {
            (Some(id), None) => {
                id.parse().map(Watch::Id).map_err(|error| format!("`id` of `{}`: {error}", self.command))
            }
            (None, Some(name)) => {
                Name::new(name).map(Watch::Name).map_err(|error| format!("`name` of `{}`: {error}", self.command))
            }
            _ => Err(format!("`{}` needs `id` or `name`, one of them: a peer's", self.command)),
        }
    }

    fn member(&self) -> Result<Id, String> {
        let id = self.id.as_ref().and_then(Value::as_str).and_then(|id| id.parse().ok());
        id.ok_or_else(|| format!("`{}` needs `id`: that of a member", self.command))
    }
}

fn data(command: &str, text: Option<String>, base64: Option<String>) -> Result<Bytes, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(base64)) => BASE64_STANDARD
            .decode(base64)
            .map(Bytes::from)
            .map_err(|error| format!("`data_base64` is not base64 with padding (RFC 4648): {error}")),
        (None, None) => Err(format!("`{command}` needs `data` or `data_base64`")),
        (Some(_), Some(_)) => Err(format!("`{command}` takes `data` or `data_base64`, not both")),
    }
}

#[cfg(test)]
mod tests {
    use p2pcore::{Identity, Role, SecretKey};

    use super::*;

    fn id() -> Id {
        Identity::new(Role::Peer, SecretKey::from_bytes([1; 32])).id()
    }

    fn ok(line: String) -> Command {
        parse(line.as_bytes()).1.unwrap()
    }

    #[test]
    fn every_command_is_read_and_unknown_keys_are_ignored() {
        let id = id();
        let options = SendOptions::default().lane(3).ttl(Duration::from_millis(500));
        assert_eq!(
            ok(format!(r#"{{"command":"send","to":["{id}"],"data":"hé","lane":3,"ttl_ms":500,"more":[1]}}"#)),
            Command::Send { to: vec![id], data: "hé".into(), options },
        );
        assert_eq!(
            ok(format!(r#"{{"cmd":"request","to":"{id}","data_base64":"AP8=","timeout_ms":7}}"#)),
            Command::Request { to: id, data: vec![0, 255].into(), timeout: Some(Duration::from_millis(7)) },
        );
        assert_eq!(
            ok(r#"{"command":"reply","rid":9,"data":""}"#.into()),
            Command::Reply { rid: 9, data: Bytes::new() }
        );
        assert_eq!(
            ok(r#"{"command":"send_master","data":"x","lane":3,"ttl_ms":500}"#.into()),
            Command::SendMaster { data: "x".into(), options }
        );
        assert_eq!(ok(r#"{"command":"status","id":7}"#.into()), Command::Status);
        assert_eq!(ok(format!(r#"{{"command":"watch","id":"{id}"}}"#)), Command::Watch(Watch::Id(id)));
        let ant = Watch::Name(Name::new("ant").unwrap());
        assert_eq!(ok(r#"{"command":"unwatch","name":"ant"}"#.into()), Command::Unwatch(ant));
        assert_eq!(ok(r#"{"command":"members"}"#.into()), Command::Members);
        for (name, command) in [
            ("leave", MemberCommand::Leave),
            ("remove", MemberCommand::Remove(id)),
            ("transfer", MemberCommand::Transfer(id)),
            ("force_new_cluster", MemberCommand::ForceNewCluster),
        ] {
            let line = format!(r#"{{"command":"members_{name}","id":"{id}"}}"#);
            assert_eq!(ok(line), Command::ChangeMembers(command));
        }
        assert_eq!(ok(r#"{"command":"quit"}"#.into()), Command::Quit);
    }

    #[test]
    fn a_bad_line_is_told_with_its_ref_where_that_can_be_read() {
        let id = id();
        for (line, reason) in [
            (r#"{"ref":"r","command":"fly"}"#.into(), "no command `fly`"),
            (r#"{"ref":"r"}"#.into(), "missing field `command`"),
            (r#"{"ref":"r","command":"send","data":"x"}"#.into(), "needs `to`"),
            (r#"{"ref":"r","command":"send","to":["C1"],"data":"x"}"#.into(), "not an Id"),
            (format!(r#"{{"ref":"r","command":"send","to":["{id}"]}}"#), "needs `data`"),
            (format!(r#"{{"ref":"r","command":"send","to":["{id}"],"data":"x","lane":256}}"#), "256"),
            (format!(r#"{{"ref":"r","command":"request","to":"{id}","data":"x","data_base64":""}}"#), "not both"),
            (format!(r#"{{"ref":"r","command":"request","to":"{id}","data_base64":"?"}}"#), "base64"),
            (r#"{"ref":"r","command":"reply","data":"x"}"#.into(), "needs `rid`"),
            (r#"{"ref":"r","command":"watch"}"#.into(), "needs `id` or `name`"),
            (r#"{"ref":"r","command":"watch","id":"C1"}"#.into(), "`id` of `watch`"),
            (r#"{"ref":"r","command":"send_master"}"#.into(), "`send_master` needs `data`"),
            (r#"{"ref":"r","command":"members_remove"}"#.into(), "`members_remove` needs `id`"),
            (r#"{"ref":"r","command":"members_transfer","id":"S1"}"#.into(), "needs `id`"),
        ] {
            let (reference, command) = parse(line.as_bytes());
            assert_eq!(reference.as_deref(), Some("r"), "{line}");
            let error = command.unwrap_err();
            assert!(error.contains(reason), "{line}: {error}");
        }
        for line in [&b"hello"[..], b"[]", b"\xff\xfe", b"{\"ref\":1,\"command\":\"status\"}", b"{\"command\":"] {
            let (reference, command) = parse(line);
            assert_eq!(reference, None);
            assert!(command.is_err());
        }
    }
}
