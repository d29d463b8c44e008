//! `sim run`: runs seeds and says which promises were broken. `sim scale`: what many peers cost.

use std::{
    alloc::System,
    fs, io,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use clap::{Args, Parser, Subcommand};
use sim::{
    check::Violation,
    clock::VirtualTime,
    machine::nodes,
    plan::Plan,
    run::{self, Report, Summary},
    scale,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tracing_subscriber::EnvFilter;

/// Counts what is on the heap, for `scale`.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A deterministic world that runs many p2pcore nodes.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one seed, one plan, or many seeds; exit with 1 if a promise is broken.
    Run(Run),
    /// Run three servers and so many peers on demand, and print what they take.
    Scale(Scale),
}

#[derive(Debug, Args)]
struct Scale {
    /// How many peers; several numbers with commas between them, one world each.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [10, 100, 1_000, 10_000])]
    peers: Vec<usize>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Run {
    /// Run this one seed.
    #[arg(long, conflicts_with_all = ["seeds", "plan"], required_unless_present_any = ["seeds", "plan"])]
    seed: Option<u64>,
    /// Run so many seeds.
    #[arg(long, value_name = "N", conflicts_with = "plan")]
    seeds: Option<u64>,
    /// The first of many seeds.
    #[arg(long, value_name = "K", default_value_t = 0, requires = "seeds")]
    from: u64,
    /// Run the plans for the consensus: a few servers and much churn.
    #[arg(long, conflicts_with = "plan")]
    council: bool,
    /// Run the plan in this JSON file.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Print the plan as JSON instead of running it; edit it and run it with --plan.
    #[arg(long, conflicts_with = "seeds")]
    print_plan: bool,
    /// Say on standard error what happens, with the virtual time; P2PCORE_LOG has more to choose from.
    #[arg(long)]
    timeline: bool,
    /// Print JSON, the last line as documented.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let run = match Cli::parse().command {
        Command::Run(run) => run,
        Command::Scale(scale) => return print_scale(&scale),
    };
    log_to_stderr(run.timeline);
    let clean = match run.seeds {
        Some(count) => Ok(run_many(&run, count)),
        None => run_one(&run),
    };
    match clean {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_one(run: &Run) -> Result<bool, String> {
    let plan = match (&run.plan, run.seed) {
        (Some(path), _) => {
            let text = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            serde_json::from_str(&text).map_err(|error| format!("{} is no plan: {error}", path.display()))?
        }
        (None, seed) => run.plan_of(seed.unwrap_or_default()),
    };
    if run.print_plan {
        println!("{}", serde_json::to_string_pretty(&plan).map_err(|error| error.to_string())?);
        return Ok(true);
    }
    let report = run::plan(plan, nodes());
    if run.json {
        print_json(&report);
    } else {
        print_violations(&report.violations);
        println!("seed {}: {:.1} s, hash {}", report.seed, report.time.as_secs_f64(), report.hash);
    }
    Ok(report.violations.is_empty())
}

fn print_scale(scale: &Scale) -> ExitCode {
    log_to_stderr(false);
    if scale.peers.iter().any(|peers| !(2..=16_000).contains(peers)) {
        eprintln!("error: --peers takes numbers from 2 to 16000");
        return ExitCode::FAILURE;
    }
    let lines = scale.peers.iter().map(|peers| scale::run(*peers, heap_in_use));
    if scale.json {
        print_json(&serde_json::json!({ "servers": scale::SERVERS, "lines": lines.collect::<Vec<_>>() }));
        return ExitCode::SUCCESS;
    }
    println!(
        "{:>7} {:>9} {:>9} {:>11} {:>11} {:>9} {:>9} {:>9} {:>6} {:>8} {:>10} {:>7} {:>8} {:>9} {:>8}",
        "peers",
        "join",
        "greet",
        "table B/s",
        "churn B/s",
        "server B",
        "watch B",
        "peer B",
        "links",
        "sent",
        "delivered",
        "failed",
        "RSS MiB",
        "steps",
        "wall"
    );
    for line in lines {
        println!(
            "{:>7} {:>6} ms {:>6} ms {:>11.1} {:>11.1} {:>9} {:>9} {:>9} {:>6.1} {:>8} {:>10} {:>7} {:>8} {:>9} {:>6.1} s",
            line.peers,
            line.join_ms,
            line.first_messages_ms,
            line.table_bytes_quiet,
            line.table_bytes_churn,
            line.server_bytes_linked,
            line.server_bytes_watched,
            line.peer_bytes,
            line.links_per_peer,
            line.sent,
            line.delivered,
            line.failed,
            line.rss_mib.unwrap_or_default(),
            line.steps,
            line.wall_ms as f64 / 1_000.0,
        );
    }
    ExitCode::SUCCESS
}

fn heap_in_use() -> u64 {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.wrapping_sub(stats.bytes_deallocated) as u64
}

impl Run {
    fn plan_of(&self, seed: u64) -> Plan {
        if self.council { Plan::council(seed) } else { Plan::from_seed(seed) }
    }
}

fn run_many(run: &Run, count: u64) -> bool {
    let start = Instant::now();
    let next = AtomicU64::new(0);
    let work = || {
        let mut reports = Vec::new();
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                return reports;
            }
            reports.push(run::plan(run.plan_of(run.from.wrapping_add(n)), nodes()));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut reports: Vec<Report> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a seed panicked")).collect()
    });
    reports.sort_by_key(|report| report.seed);
    let summary = Summary::of(&reports, start.elapsed());
    if run.json {
        print_json(&summary);
    } else {
        print_violations(&summary.violations);
        println!("{} seeds, {:.1} node hours, {:.0} times real time", summary.seeds, summary.node_hours, summary.ratio);
    }
    summary.violations.is_empty()
}

fn print_json(value: &impl serde::Serialize) {
    println!("{}", serde_json::to_string(value).unwrap_or_default());
}

fn print_violations(violations: &[Violation]) {
    for Violation { seed, checker, at_ms, nodes, what } in violations {
        let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        println!("seed {seed} at {at_ms} ms: {checker}: {what} [{}]", nodes.join(" "));
    }
}

fn log_to_stderr(timeline: bool) {
    let default = if timeline { "sim=debug" } else { "off" };
    let filter = std::env::var("P2PCORE_LOG").unwrap_or_else(|_| default.to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_timer(VirtualTime)
        .with_target(false)
        .with_writer(io::stderr)
        .init();
}
