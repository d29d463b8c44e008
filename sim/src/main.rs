//! `sim run`: runs seeds and says which promises were broken.

use std::{
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
};
use tracing_subscriber::EnvFilter;

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
    let Command::Run(run) = Cli::parse().command;
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
