//! Processes of a measurement: each answers lines with lines of JSON, and ends with its standard input.

use std::{
    env,
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    process::{self, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use p2pcore::{Id, Role};
use p2pcore_driver::{Endpoint, NodeHandle, Runtime};
use p2pcore_tokio::TokioRuntime;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::runtime;

use crate::{
    Failure,
    compare::meter::{cpu_time, resident_kib},
    peers::{self, reader},
};

/// Where the server is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct JoinOptions {
    /// Its address
    #[arg(long)]
    pub(crate) server: SocketAddr,
    /// Its Id
    #[arg(long)]
    pub(crate) id: Id,
}

impl JoinOptions {
    /// A peer that is linked to it.
    pub(crate) async fn peer(&self, number: u64, relay_only: bool) -> Result<NodeHandle, Failure> {
        peers::join(tokio_runtime()?, &[self.server], number, relay_only).await
    }
}

/// The first line of each process.
#[derive(Serialize, Deserialize)]
pub(crate) struct Ready {
    pub(crate) address: SocketAddr,
    pub(crate) id: String,
}

impl Ready {
    pub(crate) fn new(node: &NodeHandle) -> Result<Self, Failure> {
        let address = *node.listen_addresses().first().ok_or("no address")?;
        Ok(Self { address, id: node.id().to_string() })
    }

    /// The arguments that [`JoinOptions`] are read from.
    pub(crate) fn arguments(&self) -> [String; 4] {
        ["--server".to_owned(), self.address.to_string(), "--id".to_owned(), self.id.clone()]
    }
}

/// What a process has used, and how much it has sent, where that counts: the answer to the line `usage`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) at_s: f64,
    pub(crate) cpu_s: f64,
    pub(crate) kib: f64,
    pub(crate) sent: u64,
}

impl Usage {
    /// Of this process, now.
    pub(crate) fn now(sent: u64) -> Result<Self, Failure> {
        let at_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
        Ok(Self { at_s, cpu_s: cpu_time().as_secs_f64(), kib: resident_kib()?, sent })
    }

    /// Processor time since `earlier`, in cores.
    pub(crate) fn cores_since(&self, earlier: &Self) -> f64 {
        (self.cpu_s - earlier.cpu_s) / (self.at_s - earlier.at_s)
    }
}

/// The process of a founding server, which takes all that it gets.
pub(crate) fn run_server() -> Result<(), Failure> {
    threads()?.block_on(async {
        let mut options = peers::options(Role::Server, 0);
        options.found = true;
        let server = Endpoint::start(tokio_runtime()?, options)?;
        reader(server.clone());
        print_line(&Ready::new(&server)?)?;
        lines(async |line| if line == "usage" { Usage::now(0) } else { Err(format!("what is {line}?").into()) }).await
    })
}

/// Answers each line of standard input, until that ends.
pub(crate) async fn lines<T: Serialize>(
    mut answer: impl AsyncFnMut(String) -> Result<T, Failure>,
) -> Result<(), Failure> {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = receiver.recv().await {
        print_line(&answer(line).await?)?;
    }
    Ok(())
}

pub(crate) fn print_line<T: Serialize>(line: &T) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}

pub(crate) fn threads() -> Result<runtime::Runtime, Failure> {
    Ok(runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

pub(crate) fn tokio_runtime() -> Result<Arc<dyn Runtime>, Failure> {
    Ok(Arc::new(TokioRuntime::current()?))
}

/// Such a process, from the side of the one that started it.
pub(crate) struct Child {
    process: process::Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Child {
    /// This program with other arguments.
    pub(crate) fn start(arguments: &[String]) -> Result<Self, Failure> {
        let mut process =
            Command::new(env::current_exe()?).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().ok_or("no output")?);
        Ok(Self { process, input, output })
    }

    pub(crate) fn tell(&mut self, line: &str) -> Result<(), Failure> {
        let input = self.input.as_mut().ok_or("no input")?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    pub(crate) fn answer<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err("a process of the measurement has ended too early".into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    pub(crate) fn usage(&mut self) -> Result<Usage, Failure> {
        self.tell("usage")?;
        self.answer()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.process.wait();
    }
}
