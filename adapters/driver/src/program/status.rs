//! `status`: asks a running node through its control socket.

use std::{
    fmt::Write as _,
    io::{self, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

use super::{
    cli::StatusArgs,
    control,
    failure::Failure,
    guest,
    lines::{self, Line, MAX_LINE},
};

/// How long the node may take.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let status = ask(&args.state)?;
    guest::print(&if args.json { format!("{status}\n") } else { table(&status) });
    Ok(())
}

fn ask(state: &Path) -> Result<Value, Failure> {
    let no_node = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Failure::new(format_args!("no node is running on `{}`", state.display()))
        }
        _ => Failure::io(format_args!("cannot ask the node on `{}`", state.display()), &error),
    };
    let mut stream = UnixStream::connect(control::path(state)).map_err(no_node)?;
    stream
        .set_read_timeout(Some(TIMEOUT))
        .and_then(|()| stream.write_all(b"{\"command\":\"status\",\"ref\":\"status\"}\n"))
        .map_err(no_node)?;
    let mut reader = BufReader::new(stream);
    loop {
        // events stand between the answers
        match lines::next(&mut reader, MAX_LINE) {
            Ok(Some(Line::Text(text))) => {
                if let Ok(value) = serde_json::from_slice::<Value>(&text)
                    && value["event"] == "status"
                {
                    return Ok(value);
                }
            }
            Ok(Some(Line::TooLong)) => {}
            Ok(None) | Err(_) => {
                return Err(Failure::new(format_args!("the node on `{}` did not answer", state.display())));
            }
        }
    }
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
    use serde_json::json;

    use super::*;

    #[test]
    fn a_directory_without_a_node_is_one_clear_line() {
        let dir = tempfile::tempdir().unwrap();
        let error = ask(dir.path()).unwrap_err().to_string();
        assert!(error.starts_with("no node is running on `"), "{error}");
    }

    #[test]
    fn the_table_shows_every_row() {
        let shown = table(&json!({
            "id": "Sa", "role": "server", "name": "me", "listen": ["1.2.3.4:5"], "suspended": true,
            "servers": [{"id": "Sb", "name": "b", "addresses": ["1.2.3.4:6"], "linked": true, "rtt_ms": 3}],
            "peers": [{"id": "Cc", "name": "c", "linked": true, "kind": "relayed", "via": "Sb", "rtt_ms": null}],
            "clients": [{"id": "Cd", "name": "d", "public": ["1.2.3.4:7"]}],
            "links": [{"from": "Cd", "to": "Sb", "kind": "direct"}],
            "counters": {"forged": 2},
        }));
        for part in ["(suspended)", "1.2.3.4:5", "3 ms", "relayed via Sb", "1.2.3.4:7", "Cd to Sb: direct", "forged 2"]
        {
            assert!(shown.contains(part), "{part} is missing in\n{shown}");
        }
    }
}
