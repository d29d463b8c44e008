//! `members`: shows and changes the members of the cluster, through the control socket of one of them.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use p2pcore::Id;
use serde_json::{Value, json};

use super::{
    caller::{Caller, Said},
    cli::{MembersArgs, MembersCommand},
    failure::Failure,
    guest::print,
};

/// How long the others may take to agree that a member goes.
const GO: Duration = Duration::from_secs(30);
/// How long a node that has left may take to end.
const END: Duration = Duration::from_secs(5);
/// How long the next Master may take.
const HAND_OVER: Duration = Duration::from_secs(10);
/// Between two looks at the members.
const LOOK: Duration = Duration::from_millis(100);
/// An order that the leader did not hear is given again after so long.
const AGAIN: Duration = Duration::from_secs(2);

pub(super) fn run(args: &MembersArgs) -> Result<(), Failure> {
    let command = args.command.unwrap_or(MembersCommand::List);
    if let MembersCommand::ForceNewCluster { yes: false } = command {
        return Err(Failure::new(
            "force-new-cluster is for voters that are lost for good: this server alone begins the cluster anew, what the \
             others agreed on without it is lost, and each of them must join again; say `--yes` if that is wanted",
        ));
    }
    let mut caller = Caller::connect(&args.state)?;
    let (line, text) = match command {
        MembersCommand::List => {
            let members = members(&mut caller)?;
            let text = table(&members);
            (members, text)
        }
        MembersCommand::Leave => leave(&mut caller)?,
        MembersCommand::Remove { id } => remove(&mut caller, id)?,
        MembersCommand::Transfer { id } => transfer(&mut caller, id)?,
        MembersCommand::ForceNewCluster { .. } => force_new_cluster(&mut caller)?,
    };
    print(&if args.json { format!("{line}\n") } else { text });
    Ok(())
}

fn members(caller: &mut Caller) -> Result<Value, Failure> {
    caller.ask(json!({"command": "members"}))
}

fn leave(caller: &mut Caller) -> Result<(Value, String), Failure> {
    caller.ask(json!({"command": "members_leave"}))?;
    let Some(left) = left(caller, Instant::now() + GO) else {
        return Err(Failure::new(format_args!(
            "the others have not agreed in {} s: this server goes on asking to leave",
            GO.as_secs()
        )));
    };
    let end = Instant::now() + END;
    while let Said::Line(_) = caller.next(end) {}
    Ok((left, "this server has left the cluster\n".into()))
}

/// The event that the node is no member any more, if it comes before `end`.
fn left(caller: &mut Caller, end: Instant) -> Option<Value> {
    loop {
        match caller.next(end) {
            Said::Line(line) if line["event"] == "left" => return Some(line),
            Said::Line(_) => {}
            Said::End | Said::Nothing => return None,
        }
    }
}

fn remove(caller: &mut Caller, id: Id) -> Result<(Value, String), Failure> {
    let members = members(caller)?;
    if members["id"] == *id.to_string() {
        return leave(caller);
    }
    let order = json!({"command": "members_remove", "id": id});
    caller.ask(order.clone())?;
    let (end, mut again) = (Instant::now() + GO, Instant::now() + AGAIN);
    loop {
        let now = Instant::now();
        let members = self::members(caller)?;
        if row(&members, id).is_none() {
            return Ok((members, format!("{id} is no member any more\n")));
        }
        if now >= end {
            return Err(Failure::new(format_args!(
                "server {id} is still a member after {} s: this needs a quorum of the voters",
                GO.as_secs()
            )));
        }
        if now >= again {
            // without a leader now, perhaps with one later
            let _ = caller.ask(order.clone());
            again = now + AGAIN;
        }
        thread::sleep(LOOK);
    }
}

fn transfer(caller: &mut Caller, id: Id) -> Result<(Value, String), Failure> {
    if row(&members(caller)?, id).is_some_and(|row| row["voter"] == false) {
        return Err(Failure::new(format_args!("server {id} is no voter: only one of those can be Master")));
    }
    caller.ask(json!({"command": "members_transfer", "id": id}))?;
    let is_done = |members: &Value| members["master"]["id"] == *id.to_string() && is_elected(members);
    match look_until(caller, HAND_OVER, is_done)? {
        Some(members) => Ok((members, format!("{id} is Master\n"))),
        None => Err(Failure::new(format_args!(
            "server {id} has not become Master in {} s: is it running?",
            HAND_OVER.as_secs()
        ))),
    }
}

fn force_new_cluster(caller: &mut Caller) -> Result<(Value, String), Failure> {
    let before = members(caller)?["master"]["token"].clone();
    caller.ask(json!({"command": "members_force_new_cluster"}))?;
    let is_done = |members: &Value| {
        members["master"]["id"] == members["id"] && members["master"]["token"] != before && is_elected(members)
    };
    match look_until(caller, HAND_OVER, is_done)? {
        Some(members) => {
            let id = members["id"].as_str().unwrap_or_default();
            let text = format!("{id} is Master of a new cluster of its own: the others join it when they meet it\n");
            Ok((members, text))
        }
        None => Err(Failure::new(format_args!(
            "the new cluster was ordered, but has no Master after {} s: is the state directory writable?",
            HAND_OVER.as_secs()
        ))),
    }
}

/// Looks at the members until they are as wanted, for a while.
fn look_until(caller: &mut Caller, time: Duration, is_done: impl Fn(&Value) -> bool) -> Result<Option<Value>, Failure> {
    let end = Instant::now() + time;
    loop {
        let members = members(caller)?;
        if is_done(&members) {
            return Ok(Some(members));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

fn is_elected(members: &Value) -> bool {
    members["master"]["kind"] == "elected"
}

fn row(members: &Value, id: Id) -> Option<&Value> {
    members["members"].as_array()?.iter().find(|row| row["id"] == *id.to_string())
}

/// For humans: the members from the oldest on, and the Master.
pub(super) fn table(members: &Value) -> String {
    let mut out = String::new();
    let rows = members["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    for row in rows {
        let role = if row["voter"] == true { "voter" } else { "learner" };
        let mut notes = Vec::new();
        if row["id"] == members["master"]["id"] {
            notes.push(if is_elected(members) { "Master" } else { "Master (provisional)" });
        }
        if row["id"] == members["id"] {
            notes.push("this server");
        }
        let line = format!("  {}  {role:<8} {}", row["id"].as_str().unwrap_or_default(), notes.join(", "));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    if rows.is_empty() {
        out.push_str("  none are known yet\n");
    }
    let _ = writeln!(out, "{}", master(&members["master"]));
    out
}

fn master(master: &Value) -> String {
    match (master["token"].as_str(), master["reason"].as_object()) {
        (Some(token), _) => format!("token of the Master: {token}"),
        (None, Some(reason)) => {
            format!("no Master: {} voters are needed, {} of them seen", reason["need"], reason["have"])
        }
        (None, None) => "no Master is known".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_who_votes_who_is_master_and_what_is_missing() {
        let members = json!([{"id": "Sa", "voter": true}, {"id": "Sb", "voter": false}]);
        let master = json!({"id": "Sa", "kind": "elected", "token": "01", "reason": null});
        let shown = table(&json!({"id": "Sb", "members": members, "master": master}));
        assert_eq!(shown, "  Sa  voter    Master\n  Sb  learner  this server\ntoken of the Master: 01\n");
        let master = json!({"id": "Sb", "kind": "provisional", "token": "00", "reason": null});
        let shown = table(&json!({"id": "Sb", "members": members, "master": master}));
        assert!(shown.contains("  Sb  learner  Master (provisional), this server\n"), "{shown}");
        let master = json!({"id": null, "kind": null, "token": null, "reason": {"need": 3, "have": 2}});
        let shown = table(&json!({"id": "Sb", "members": [], "master": master}));
        assert_eq!(shown, "  none are known yet\nno Master: 3 voters are needed, 2 of them seen\n");
        assert!(table(&json!({"members": [], "master": null})).ends_with("no Master is known\n"));
    }
}
