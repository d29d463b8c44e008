//! A program that talks to humans.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
};

use crate::running::LIMIT;

/// A running program without `--json`; it is killed when it is dropped.
#[derive(Debug)]
pub struct Text {
    child: Child,
    lines: Receiver<String>,
}

impl Text {
    /// Starts the command. Its standard input is empty.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    /// The next line of standard output.
    ///
    /// # Panics
    /// If it does not come.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("a line")
    }

    /// Sends a signal by its name, as in `TERM`.
    ///
    /// # Panics
    /// If there is no `kill`.
    pub fn signal(&self, signal: &str) {
        crate::running::signal(&self.child, signal);
    }

    /// The lines of standard output that are left, the exit status, and standard error.
    ///
    /// # Panics
    /// If it does not end.
    pub fn finish(mut self) -> (Vec<String>, ExitStatus, String) {
        let mut lines = Vec::new();
        loop {
            match self.lines.recv_timeout(2 * LIMIT) {
                Ok(line) => lines.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end; so far it said {lines:?}"),
            }
        }
        let status = self.child.wait().expect("a child");
        let mut stderr = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut stderr).expect("text");
        (lines, status, stderr)
    }
}

impl Drop for Text {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
