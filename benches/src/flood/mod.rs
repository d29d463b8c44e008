//! Honest messages beside floods: a server, the honest and the flooder, each in a process of its own.

mod flooder;
mod nodes;

use std::{fmt, thread, time::Duration};

use clap::ValueEnum;
use serde::Serialize;

use self::nodes::Run;
use crate::{
    Failure,
    process::{Child, Ready},
};

pub(crate) use self::{
    flooder::{FlooderOptions, run as run_flooder},
    nodes::run_honest,
};

/// How the flood is run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Print JSON: one line
    #[arg(long)]
    json: bool,
    /// Only this flood; repeatable
    #[arg(long, value_enum)]
    only: Vec<Flood>,
    /// How long each one lasts, in seconds
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=20))]
    seconds: u64,
}

/// What the flooder does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Flood {
    /// Nothing
    None,
    /// Datagrams of strangers to the server, of all first bytes
    Junk,
    /// The same to a peer
    JunkToPeer,
    /// First packets of strangers to the server: of the right length, with a wrong tag
    FirstPackets,
    /// A member's messages to the server, as fast as they are taken
    Messages,
    /// The same to another member by way of the server
    Relayed,
    /// New Ids that are linked and leave, as fast as they are admitted
    Minted,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// The floods and how many packets a second each is to send; 0 is as many as go.
const FLOODS: [(Flood, u32); 14] = [
    (Flood::None, 0),
    (Flood::Junk, 50_000),
    (Flood::Junk, 100_000),
    (Flood::Junk, 200_000),
    (Flood::Junk, 0),
    (Flood::JunkToPeer, 50_000),
    (Flood::JunkToPeer, 100_000),
    (Flood::JunkToPeer, 200_000),
    (Flood::JunkToPeer, 0),
    (Flood::FirstPackets, 0),
    (Flood::Messages, 0),
    (Flood::Relayed, 0),
    (Flood::Minted, 0),
    (Flood::None, 0),
];
/// Before the honest are looked at, and after a flood.
const SETTLING: Duration = Duration::from_millis(500);

/// One line of the report.
#[derive(Serialize)]
struct Row {
    flood: Flood,
    /// What the flooder was to send, and what it sent, a second: packets, messages or Ids.
    asked_per_s: u32,
    sent_per_s: f64,
    /// Honest messages in time, in percent of those offered.
    direct: f64,
    relayed: f64,
    to_server: f64,
    /// Processor time in cores.
    server_cpu: f64,
    honest_cpu: f64,
    flooder_cpu: f64,
    server_kib_before: f64,
    server_kib_after: f64,
    /// At least nine tenths of what came in time without a flood.
    holds: bool,
}

#[derive(Serialize)]
struct Report {
    seconds: u64,
    offered_per_s: u32,
    rows: Vec<Row>,
}

/// Runs all floods one after another, and prints what the honest had of it.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let time = Duration::from_secs(options.seconds);
    let mut server = Child::start(&["server".to_owned()])?;
    let ready: Ready = server.answer()?;
    let join = ready.arguments();
    let honest_arguments = [&["flood-honest".to_owned()][..], &join].concat();
    let mut honest = Child::start(&honest_arguments)?;
    let peer: Ready = honest.answer()?;
    let mut rows: Vec<Row> = Vec::new();
    let chosen = |flood: &Flood| *flood == Flood::None || options.only.is_empty() || options.only.contains(flood);
    for (flood, rate) in FLOODS.into_iter().filter(|(flood, _)| chosen(flood)) {
        if !options.json {
            eprintln!("{flood} {rate}");
        }
        let before = server.usage()?;
        let target = if flood == Flood::JunkToPeer { peer.address } else { ready.address };
        let mut flooder = (flood != Flood::None)
            .then(|| {
                let own = ["--flood".to_owned(), flood.to_string(), "--rate".to_owned(), rate.to_string()];
                let target = ["--target".to_owned(), target.to_string()];
                Child::start(&[&["flooder".to_owned()][..], &join, &own, &target].concat())
            })
            .transpose()?;
        if let Some(flooder) = &mut flooder {
            let _: Ready = flooder.answer()?;
        }
        thread::sleep(SETTLING);
        let (from, honest_from) = (server.usage()?, honest.usage()?);
        let flooder_from = flooder.as_mut().map(Child::usage).transpose()?;
        honest.tell(&format!("run {}", time.as_millis()))?;
        let Run { direct, relayed, to_server } = honest.answer()?;
        let (to, honest_to) = (server.usage()?, honest.usage()?);
        let flooder_to = flooder.as_mut().map(Child::usage).transpose()?;
        drop(flooder);
        let (sent_per_s, flooder_cpu) = match (&flooder_from, &flooder_to) {
            (Some(from), Some(to)) => ((to.sent - from.sent) as f64 / (to.at_s - from.at_s), to.cores_since(from)),
            _ => (0.0, 0.0),
        };
        let least = |row: &Row| [row.direct, row.relayed, row.to_server];
        let quiet = rows.first().map_or([100.0; 3], least);
        let holds = [direct, relayed, to_server].iter().zip(quiet).all(|(with, without)| *with >= without * 0.9);
        rows.push(Row {
            flood,
            asked_per_s: rate,
            sent_per_s,
            direct,
            relayed,
            to_server,
            server_cpu: to.cores_since(&from),
            honest_cpu: honest_to.cores_since(&honest_from),
            flooder_cpu,
            server_kib_before: before.kib,
            server_kib_after: to.kib,
            holds,
        });
        thread::sleep(SETTLING * 2);
    }
    let report = Report { seconds: options.seconds, offered_per_s: nodes::PER_SECOND, rows };
    if options.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "honest messages in time, in percent of {} a second in each column", self.offered_per_s)?;
        writeln!(
            f,
            "{:<14} {:>9} {:>7} {:>8} {:>9} {:>10} {:>10} {:>11} {:>17} {:>5}",
            "flood",
            "sent/s",
            "direct",
            "relayed",
            "to server",
            "server CPU",
            "honest CPU",
            "flooder CPU",
            "server RSS, MiB",
            "holds"
        )?;
        for row in &self.rows {
            let Row { flood, sent_per_s, direct, relayed, to_server, server_cpu, honest_cpu, flooder_cpu, .. } = row;
            let memory = [row.server_kib_before, row.server_kib_after].map(|kib| kib / 1_024.0);
            writeln!(
                f,
                "{flood:<14} {sent_per_s:>9.0} {direct:>7.1} {relayed:>8.1} {to_server:>9.1} {server_cpu:>10.2} {honest_cpu:>10.2} \
                 {flooder_cpu:>11.2} {:>8.1} {:>8.1} {:>5}",
                memory[0],
                memory[1],
                if row.holds { "yes" } else { "no" }
            )?;
        }
        Ok(())
    }
}
