//! The control socket of a running node.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use serde_json::Value;

use crate::running::LIMIT;

/// A connection to it.
#[derive(Debug)]
pub struct Control {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Control {
    /// To the node with this state directory.
    ///
    /// # Panics
    /// If there is none.
    pub fn connect(state: &Path) -> Self {
        let stream = UnixStream::connect(state.join("control.sock")).expect("a control socket");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        let reader = BufReader::new(stream.try_clone().expect("a socket"));
        Self { stream, reader }
    }

    /// Writes one command.
    ///
    /// # Panics
    /// If the node does not read any more.
    pub fn command(&mut self, command: &Value) {
        writeln!(self.stream, "{command}").expect("the node reads");
    }

    /// The next line of this kind; those before it are lost.
    ///
    /// # Panics
    /// If it does not come.
    pub fn event(&mut self, event: &str) -> Value {
        loop {
            let mut line = String::new();
            let len = self.reader.read_line(&mut line).expect("the node writes");
            assert!(len > 0, "the node closed the connection before {event}");
            let value = serde_json::from_str::<Value>(&line).expect("a line is JSON");
            if value["event"] == *event {
                return value;
            }
        }
    }
}
