//! Interleaved rounds: each work is done by one system right after the other, since machines change their speed.

mod forwarder;
#[cfg(feature = "iroh")]
mod iroh;
#[cfg(feature = "libp2p")]
mod libp2p;
pub(crate) mod meter;
#[cfg(feature = "nats")]
mod nats;
mod p2p;
mod plain;
mod report;
mod streams;
#[cfg(feature = "zenoh")]
mod zenoh;

use std::{
    env, fmt,
    pin::Pin,
    process::Command,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use serde::Serialize;
use tokio::runtime;

use self::{
    meter::Sample,
    report::{Report, Row},
};
use crate::Failure;

/// How the comparison is run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print JSON: one line
    #[arg(long)]
    json: bool,
    /// How many times each work is done by each system
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Only this work; repeatable
    #[arg(long, value_enum)]
    only: Vec<Work>,
    /// Only works of this size; repeatable
    #[arg(long)]
    size: Vec<usize>,
    /// Only this system, to profile it; repeatable
    #[arg(long, value_enum)]
    system: Vec<System>,
}

/// Who works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum System {
    /// This project.
    P2pcore,
    /// Plain quinn.
    Quinn,
    /// iroh, if built in.
    Iroh,
    /// libp2p, if built in.
    Libp2p,
    /// zenoh, if built in.
    Zenoh,
    /// NATS, if built in.
    Nats,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
enum Work {
    /// Requests one after another; the size is that of the request and of the reply
    Rr,
    /// Ordered messages, as fast as they go
    Msg,
    /// One transfer
    Bulk,
    /// Mutual handshakes one after another, each by a new node
    Handshake,
    /// As rr, by way of a third one
    RelayRr,
    /// As msg, by way of a third one
    RelayMsg,
    /// Links that nobody uses; the size is how many link ends there are
    Idle,
    /// A message of 1 KiB to each of so many nodes; the size is how many there are
    Fanout,
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// How much is done.
#[derive(Clone, Copy, Debug)]
struct Load {
    /// Bytes; of `fanout`, nodes.
    size: usize,
    time: Duration,
    /// Not measured at the beginning.
    warm_up: Duration,
    /// A process that works for the system beside this one.
    helper: Option<u32>,
}

/// A work under way.
type Doing = Pin<Box<dyn Future<Output = Result<Sample, Failure>>>>;

impl System {
    /// What begins a work, if the system does it. None if the system is not built in.
    fn begin(self) -> Option<fn(Work, Load) -> Option<Doing>> {
        match self {
            Self::P2pcore => Some(p2p::begin),
            Self::Quinn => Some(plain::begin),
            #[cfg(feature = "iroh")]
            Self::Iroh => Some(iroh::begin),
            #[cfg(feature = "libp2p")]
            Self::Libp2p => Some(libp2p::begin),
            #[cfg(feature = "zenoh")]
            Self::Zenoh => Some(zenoh::begin),
            #[cfg(feature = "nats")]
            Self::Nats => Some(nats::begin),
            #[cfg(not(all(feature = "iroh", feature = "libp2p", feature = "nats", feature = "zenoh")))]
            _ => None,
        }
    }
}

const MIB: usize = 1024 * 1024;
const WORKS: [(Work, usize); 13] = [
    (Work::Rr, 64),
    (Work::Rr, 1_024),
    (Work::Msg, 64),
    (Work::Msg, 1_024),
    (Work::Msg, 16 * 1_024),
    (Work::Bulk, 256 * MIB),
    (Work::Handshake, 0),
    (Work::RelayRr, 64),
    (Work::RelayMsg, 1_024),
    (Work::Idle, 870),
    (Work::Fanout, 1),
    (Work::Fanout, 10),
    (Work::Fanout, 100),
];
const SYSTEMS: [System; 6] =
    [System::Quinn, System::P2pcore, System::Iroh, System::Libp2p, System::Zenoh, System::Nats];
/// Past this no further round begins.
const MOST: Duration = Duration::from_secs(480);

/// Measures, and prints what it found.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    if let Some(missing) = options.system.iter().find(|system| system.begin().is_none()) {
        return Err(format!("{missing} is not in this build: build with --features {missing}").into());
    }
    let chosen = |(work, size): &(Work, usize)| {
        (options.only.is_empty() || options.only.contains(work))
            && (options.size.is_empty() || options.size.contains(size))
    };
    let of_those = |system: &System| options.system.is_empty() || options.system.contains(system);
    let systems: Vec<_> = SYSTEMS.into_iter().filter(of_those).collect();
    let works = WORKS.into_iter().filter(chosen);
    let tasks: Vec<_> = works
        .flat_map(|(work, size)| systems.iter().map(move |system| (work, size, *system)))
        .filter(|(work, size, system)| begin(*work, *size, *system).is_some())
        .collect();
    if tasks.is_empty() {
        return Err("none of these systems does any of these works: name others".into());
    }
    let mut report = Report::new(tasks.iter().map(|(work, size, system)| Row::new((*work, *size), *system)));
    let begun = Instant::now();
    while report.rounds < options.rounds && begun.elapsed() < MOST {
        for (work, size, system) in tasks.iter().copied() {
            if !options.json {
                eprintln!("round {}: {work} {size} {system}", report.rounds + 1);
            }
            let sample = measure(work, size, system).map_err(|failure| format!("{work} {size} {system}: {failure}"))?;
            report.add(work, size, system, sample);
        }
        report.rounds += 1;
    }
    if options.json {
        println!("{}", report.json()?);
    } else {
        print!("{report}");
    }
    Ok(())
}

/// What the hidden command `idle` prints.
pub(crate) fn print_idle(system: System) -> Result<(), Failure> {
    let ends = WORKS.iter().find_map(|(work, size)| (*work == Work::Idle).then_some(*size)).unwrap_or(2);
    let kib = threads()?.block_on(async {
        match system {
            System::P2pcore => p2p::idle(ends).await,
            System::Quinn => plain::idle(ends).await,
            other => Err(format!("idle links of {other} are not measured").into()),
        }
    })?;
    println!("{kib}");
    Ok(())
}

fn threads() -> Result<runtime::Runtime, Failure> {
    Ok(runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Nothing is done before it is awaited.
fn begin(work: Work, size: usize, system: System) -> Option<Doing> {
    let load = Load { size, time: Duration::from_millis(1_500), warm_up: Duration::from_millis(100), helper: None };
    match (work, system) {
        (Work::Idle, System::P2pcore | System::Quinn) => Some(Box::pin(async move { idle(system) })),
        (Work::Idle, _) => None,
        _ => system.begin()?(work, load),
    }
}

fn measure(work: Work, size: usize, system: System) -> Result<Sample, Failure> {
    let doing = begin(work, size, system).ok_or("the system does not do this")?;
    threads()?.block_on(doing)
}

/// In a process of its own, whose memory nothing else has touched.
fn idle(system: System) -> Result<Sample, Failure> {
    let output = Command::new(env::current_exe()?).args(["idle", &system.to_string()]).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let kib = String::from_utf8(output.stdout)?.trim().parse()?;
    Ok(Sample { value: kib, kib_per_link: Some(kib), ..Sample::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_say_which_systems_there_are() {
        let built_in = [
            (System::Quinn, true),
            (System::P2pcore, true),
            (System::Iroh, cfg!(feature = "iroh")),
            (System::Libp2p, cfg!(feature = "libp2p")),
            (System::Zenoh, cfg!(feature = "zenoh")),
            (System::Nats, cfg!(feature = "nats")),
        ];
        assert_eq!(SYSTEMS, built_in.map(|(system, _)| system));
        for (system, is_there) in built_in {
            assert_eq!(begin(Work::Msg, 64, system).is_some(), is_there, "{system}");
        }
        assert!(begin(Work::Idle, 2, System::Quinn).is_some() && begin(Work::Idle, 2, System::Iroh).is_none());
    }
}
