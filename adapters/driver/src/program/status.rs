//! `status`: asks a running node through its control socket.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{caller::Caller, cli::StatusArgs, failure::Failure, guest::print, members};

pub(super) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let status = Caller::connect(&args.state)?.ask(json!({"command": "status"}))?;
    print(&if args.json { format!("{status}\n") } else { table(&status) });
    Ok(())
}

/// For humans.
fn table(status: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let list = |value: &Value| {
        let items = value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
        if items.is_empty() { "-".to_owned() } else { items.join(" ") }
    };
    let rtt = |row: &Value| row["rtt_ms"].as_u64().map_or("-".to_owned(), |ms| format!("{ms} ms"));
    let rows = |key: &str| status[key].as_array().cloned().unwrap_or_default();
    let mut out = String::new();
    let suspended = if status["suspended"] == true { " (suspended)" } else { "" };
    let _ = writeln!(out, "{} {} {}{suspended}", text(&status["role"]), text(&status["id"]), text(&status["name"]));
    let _ = writeln!(out, "listening on {}", list(&status["listen"]));
    let _ = write!(out, "\nmembers\n{}", members::table(status));
    let _ = writeln!(out, "\nservers");
    for row in rows("servers") {
        let linked = if row["linked"] == true { "linked" } else { "not linked" };
        let (id, name, addresses) = (text(&row["id"]), text(&row["name"]), list(&row["addresses"]));
        let _ = writeln!(out, "  {id}  {name:<16} {linked:<10} {:>8}  {addresses}", rtt(&row));
    }
    let _ = writeln!(out, "\npeers");
    for row in rows("peers") {
        let path = match (row["linked"] == true, row["via"].as_str()) {
            (false, _) => "not linked".to_owned(),
            (true, None) => text(&row["kind"]),
            (true, Some(via)) => format!("{} via {via}", text(&row["kind"])),
        };
        let _ = writeln!(out, "  {}  {:<16} {:>8}  {path}", text(&row["id"]), text(&row["name"]), rtt(&row));
    }
    if status["role"] == "server" {
        let _ = writeln!(out, "\nclients");
        for row in rows("clients") {
            let _ = writeln!(out, "  {}  {:<16} {}", text(&row["id"]), text(&row["name"]), list(&row["public"]));
        }
        let _ = writeln!(out, "\nlinks");
        for row in rows("links") {
            let _ = writeln!(out, "  {} to {}: {}", text(&row["from"]), text(&row["to"]), text(&row["kind"]));
        }
    }
    let _ = writeln!(out, "\ncounters");
    for (name, value) in status["counters"].as_object().into_iter().flatten() {
        let _ = writeln!(out, "  {name} {value}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_every_row() {
        let shown = table(&json!({
            "id": "Sa", "role": "server", "name": "me", "listen": ["1.2.3.4:5"], "suspended": true,
            "members": [{"id": "Sb", "voter": true}],
            "master": {"id": "Sb", "kind": "elected", "token": "0a1", "reason": null},
            "servers": [{"id": "Sb", "name": "b", "addresses": ["1.2.3.4:6"], "linked": true, "rtt_ms": 3}],
            "peers": [{"id": "Cc", "name": "c", "linked": true, "kind": "relayed", "via": "Sb", "rtt_ms": null}],
            "clients": [{"id": "Cd", "name": "d", "public": ["1.2.3.4:7"]}],
            "links": [{"from": "Cd", "to": "Sb", "kind": "direct"}],
            "counters": {"forged": 2},
        }));
        for part in [
            "(suspended)",
            "1.2.3.4:5",
            "Sb  voter    Master",
            "0a1",
            "3 ms",
            "relayed via Sb",
            "1.2.3.4:7",
            "Cd to Sb: direct",
            "forged 2",
        ] {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
    }
}
