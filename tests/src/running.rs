//! A program that runs with `--json`.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// How long anything may take before the test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// Why no line came in time.
const SILENT: &str = "was silent for too long";

/// A running program; it is killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    /// With the time when each came.
    lines: Receiver<(Instant, String)>,
    /// Lines that nobody has waited for yet.
    pending: VecDeque<(Instant, Value)>,
    /// All lines, for the report of a failure.
    seen: Vec<String>,
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts the command.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(name: &str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let (mut pipe, text) = (child.stderr.take().expect("a pipe"), stderr.clone());
        let stderr_reader = thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(len @ 1..) = pipe.read(&mut buffer) {
                text.lock().expect("no panic").push_str(&String::from_utf8_lossy(&buffer[..len]));
            }
        });
        Self {
            name: name.into(),
            stdin: child.stdin.take(),
            child,
            lines,
            pending: VecDeque::new(),
            seen: Vec::new(),
            stderr,
            stderr_reader: Some(stderr_reader),
        }
    }

    /// Writes one command.
    ///
    /// # Panics
    /// If the program does not read any more.
    pub fn command(&mut self, command: &Value) {
        self.raw(&command.to_string());
    }

    /// Writes one line as it is.
    ///
    /// # Panics
    /// If the program does not read any more.
    pub fn raw(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is open");
        let written = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
        if written.is_err() {
            self.fail("does not read its commands");
        }
    }

    /// Writes many commands at once.
    ///
    /// # Panics
    /// If the program does not read any more.
    pub fn commands(&mut self, commands: impl IntoIterator<Item = Value>) {
        let lines = commands.into_iter().map(|command| command.to_string()).collect::<Vec<_>>();
        self.raw(&lines.join("\n"));
    }

    /// Sends a message and gives back its outcome at one destination.
    pub fn deliver(&mut self, to: &str, data: &str) -> Value {
        let reference = format!("deliver-{}", self.seen.len());
        self.command(&json!({"command": "send", "ref": reference, "to": [to], "data": data}));
        self.wait("an outcome", |line| line["ref"] == *reference)
    }

    /// The next line of this kind that nobody has waited for; lines of other kinds stay for later.
    pub fn event(&mut self, event: &str) -> Value {
        self.wait(event, |line| line["event"] == *event)
    }

    /// The next `event` about this Id.
    pub fn event_of(&mut self, event: &str, id: &str) -> Value {
        self.wait(&format!("{event} of {id}"), |line| line["event"] == *event && line["id"] == *id)
    }

    /// The next line that `is_it` and that nobody has waited for; the others stay for later.
    ///
    /// # Panics
    /// If it does not come.
    pub fn wait(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        self.wait_at(what, is_it).1
    }

    /// As [`wait`](Self::wait), with the time when the line came.
    ///
    /// # Panics
    /// If it does not come.
    pub fn wait_at(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> (Instant, Value) {
        if let Some(index) = self.pending.iter().position(|(_, line)| is_it(line)) {
            return self.pending.remove(index).expect("it is there");
        }
        let end = Instant::now() + LIMIT;
        loop {
            match self.next_line(end) {
                Ok((at, line)) if is_it(&line) => return (at, line),
                Ok(line) => self.pending.push_back(line),
                Err(why) => self.fail(&format!("{why} before {what}")),
            }
        }
    }

    /// The next line that nobody has waited for, if one comes within this time.
    ///
    /// # Panics
    /// If the program has ended.
    pub fn line_within(&mut self, time: Duration) -> Option<Value> {
        if let Some((_, line)) = self.pending.pop_front() {
            return Some(line);
        }
        match self.next_line(Instant::now() + time) {
            Ok((_, line)) => Some(line),
            Err(SILENT) => None,
            Err(why) => self.fail(why),
        }
    }

    /// Asks for the status until `is_it`.
    ///
    /// # Panics
    /// If that does not come.
    pub fn status_until(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + LIMIT;
        loop {
            let status = self.status();
            if is_it(&status) {
                return status;
            }
            if Instant::now() > end {
                self.fail(&format!("never came to {what}; the last status is {status}"));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The tables now.
    pub fn status(&mut self) -> Value {
        let reference = format!("status-{}", self.seen.len());
        self.command(&json!({"command": "status", "ref": reference}));
        self.wait("the status", |line| line["ref"] == *reference)
    }

    /// Its Id.
    ///
    /// # Panics
    /// If it does not say it.
    pub fn id(&mut self) -> String {
        self.status()["id"].as_str().expect("an Id").to_owned()
    }

    /// Lines of this kind that have come by now and that nobody has waited for; they are taken.
    pub fn take(&mut self, event: &str) -> Vec<Value> {
        // the answer comes after everything that was written before
        self.status();
        let (taken, left): (VecDeque<_>, _) = self.pending.drain(..).partition(|(_, line)| line["event"] == *event);
        self.pending = left;
        taken.into_iter().map(|(_, line)| line).collect()
    }

    /// All lines of standard output, and the exit status.
    ///
    /// # Panics
    /// If it does not end.
    pub fn finish(mut self) -> (Vec<Value>, ExitStatus, String) {
        let end = Instant::now() + 2 * LIMIT;
        let mut lines = self.pending.drain(..).map(|(_, line)| line).collect::<Vec<_>>();
        loop {
            match self.next_line(end) {
                Ok((_, line)) => lines.push(line),
                Err("ended") => break,
                Err(why) => self.fail(why),
            }
        }
        let status = self.child.wait().expect("a child");
        self.stderr_reader.take().map(JoinHandle::join);
        (lines, status, self.stderr.lock().expect("no panic").clone())
    }

    /// Says `quit`.
    pub fn quit(mut self) -> (Vec<Value>, ExitStatus, String) {
        self.command(&json!({"command": "quit"}));
        self.finish()
    }

    /// Closes standard input.
    pub fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Sends a signal by its name, as in `TERM`.
    ///
    /// # Panics
    /// If there is no `kill`.
    pub fn signal(&self, signal: &str) {
        self::signal(&self.child, signal);
    }

    /// Makes it stand still, by SIGSTOP; it goes on at the signal `CONT`.
    ///
    /// # Panics
    /// If it goes on.
    pub fn stop(&self) {
        self.signal("STOP");
        // on a busy machine the signal takes its time to get to all threads
        let tasks = format!("/proc/{}/task", self.child.id());
        for _ in 0..10_000 {
            thread::sleep(Duration::from_millis(1));
            let Ok(tasks) = fs::read_dir(&tasks) else { return thread::sleep(Duration::from_millis(500)) };
            let stats = tasks.flatten().map(|task| fs::read_to_string(task.path().join("stat")).unwrap_or_default());
            if stats.into_iter().all(|stat| stat.rsplit(") ").next().is_some_and(|state| state.starts_with('T'))) {
                return;
            }
        }
        self.fail("does not stand still");
    }

    /// Ends it by SIGKILL: no goodbye.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn next_line(&mut self, end: Instant) -> Result<(Instant, Value), &'static str> {
        match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok((at, line)) => {
                self.seen.push(line.clone());
                match serde_json::from_str(&line) {
                    Ok(value) => Ok((at, value)),
                    Err(_) => Err("wrote a line that is not JSON"),
                }
            }
            Err(RecvTimeoutError::Timeout) => Err(SILENT),
            Err(RecvTimeoutError::Disconnected) => Err("ended"),
        }
    }

    fn fail(&self, what: &str) -> ! {
        let mut report = format!("{} {what}; its last lines:\n", self.name);
        for line in self.seen.iter().rev().take(30).rev() {
            let _ = writeln!(report, "  {}", line.chars().take(400).collect::<String>());
        }
        let _ = write!(report, "and on standard error:\n{}", self.stderr.lock().expect("no panic"));
        panic!("{report}");
    }
}

pub(crate) fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status();
    assert!(status.expect("`kill` starts").success());
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
