//! What talks to a running node through its control socket.

use std::{
    io::{self, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    control,
    failure::Failure,
    lines::{self, Line, MAX_LINE},
};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a node.
pub(super) struct Caller {
    state: PathBuf,
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    asked: u64,
}

/// What the node says next.
pub(super) enum Said {
    Line(Value),
    /// It has ended.
    End,
    /// Nothing, for too long.
    Nothing,
}

impl Caller {
    pub(super) fn connect(state: &Path) -> Result<Self, Failure> {
        let no_node = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Failure::new(format_args!("no node is running on `{}`", state.display()))
            }
            _ => Failure::io(format_args!("cannot ask the node on `{}`", state.display()), &error),
        };
        let stream = UnixStream::connect(control::path(state)).map_err(no_node)?;
        let reader = BufReader::new(stream.try_clone().map_err(no_node)?);
        Ok(Self { state: state.to_owned(), stream, reader, asked: 0 })
    }

    /// Gives a command and waits for its one answer. `error` is a failure with its reason.
    pub(super) fn ask(&mut self, mut command: Value) -> Result<Value, Failure> {
        self.asked += 1;
        let reference = self.asked.to_string();
        command["ref"] = json!(reference);
        if self.stream.write_all(format!("{command}\n").as_bytes()).is_err() {
            return Err(self.no_answer());
        }
        let end = Instant::now() + TIMEOUT;
        loop {
            // events stand between the answers
            match self.next(end) {
                Said::Line(line) if line["ref"] != *reference => {}
                Said::Line(line) if line["event"] == "error" => {
                    return Err(Failure::new(line["reason"].as_str().unwrap_or_default()));
                }
                Said::Line(mut line) => {
                    // the name of the question is nobody else's business
                    line["ref"] = Value::Null;
                    return Ok(line);
                }
                Said::End | Said::Nothing => return Err(self.no_answer()),
            }
        }
    }

    /// The next line before `end`.
    pub(super) fn next(&mut self, end: Instant) -> Said {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stream.set_read_timeout(Some(left)).is_err() {
                return Said::Nothing;
            }
            match lines::next(&mut self.reader, MAX_LINE) {
                Ok(Some(Line::Text(text))) => {
                    if let Ok(value) = serde_json::from_slice(&text) {
                        return Said::Line(value);
                    }
                }
                Ok(Some(Line::TooLong)) => {}
                Ok(None) => return Said::End,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Said::Nothing;
                }
                Err(_) => return Said::End,
            }
        }
    }

    fn no_answer(&self) -> Failure {
        Failure::new(format_args!("the node on `{}` did not answer", self.state.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::{io::BufRead, os::unix::net::UnixListener, thread};

    use super::*;

    /// A node that answers each command by these lines, in which `REF` stands for the command's.
    fn node(dir: &Path, answers: &'static [&'static str]) {
        let listener = UnixListener::bind(control::path(dir)).unwrap();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for (answer, line) in answers.iter().zip(lines) {
                let command: Value = serde_json::from_str(&line.unwrap()).unwrap();
                let reference = command["ref"].as_str().unwrap();
                stream.write_all(answer.replace("REF", reference).as_bytes()).unwrap();
            }
        });
    }

    #[test]
    fn a_directory_without_a_node_is_one_clear_line() {
        let dir = tempfile::tempdir().unwrap();
        let error = Caller::connect(dir.path()).err().unwrap().to_string();
        assert!(error.starts_with("no node is running on `"), "{error}");
    }

    #[test]
    fn answers_are_told_from_events_and_errors_are_failures() {
        let dir = tempfile::tempdir().unwrap();
        let events =
            "{\"event\":\"error\",\"ref\":null,\"reason\":\"not for you\"}\n{\"event\":\"resumed\"}\nno JSON\n";
        let answers = [
            &*Box::leak(format!("{events}{{\"event\":\"status\",\"ref\":\"REF\"}}\n").into_boxed_str()),
            "{\"event\":\"error\",\"ref\":\"REF\",\"reason\":\"it cannot be\"}\n",
            "{\"event\":\"left\"}\n",
        ];
        node(dir.path(), Box::leak(Box::new(answers)));
        let mut caller = Caller::connect(dir.path()).unwrap();
        assert_eq!(caller.ask(json!({"command": "status"})).unwrap()["event"], "status");
        assert_eq!(caller.ask(json!({"command": "x"})).unwrap_err().to_string(), "it cannot be");
        let error = caller.ask(json!({"command": "x"})).unwrap_err().to_string();
        assert!(error.ends_with("did not answer"), "{error}");
        let end = Instant::now() + Duration::from_secs(40);
        assert!(matches!(caller.next(end), Said::End));
        assert!(matches!(caller.next(Instant::now()), Said::Nothing));
    }
}
