//! Time, processor time and memory of this process, and of one that helps it.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::{
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};

use super::Load;
use crate::Failure;

/// What one measurement of one system gave. Rates are per second of wall time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// The figure that the systems are compared by.
    pub(super) value: f64,
    pub(super) cpu_us_per_op: Option<f64>,
    pub(super) p50_us: Option<f64>,
    pub(super) p99_us: Option<f64>,
    pub(super) kib_per_link: Option<f64>,
}

/// Wall time and the processor time of all threads, those of a helper too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopwatch {
    wall: Instant,
    cpu: Duration,
    helper: Option<u32>,
}

impl Stopwatch {
    pub(super) fn start(load: Load) -> Self {
        let helper = load.helper;
        Self { cpu: cpu_time() + helper.map_or(Duration::ZERO, cpu_time_of), wall: Instant::now(), helper }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.wall.elapsed()
    }

    /// So many operations since the start: their rate, and the processor time of each.
    pub(super) fn rate(&self, operations: u64) -> Sample {
        let wall = self.wall.elapsed();
        // what a helper did is unknown once it has ended
        let cpu = (cpu_time() + self.helper.map_or(Duration::ZERO, cpu_time_of)).saturating_sub(self.cpu);
        let operations = operations.max(1) as f64;
        Sample {
            value: operations / wall.as_secs_f64(),
            cpu_us_per_op: Some(cpu.as_secs_f64() * 1e6 / operations),
            ..Sample::default()
        }
    }

    /// As `rate`, where nothing may be lost.
    pub(super) fn rate_of_all(&self, sent: u64, arrived: u64) -> Result<Sample, Failure> {
        let sample = self.rate(arrived);
        if sent == arrived { Ok(sample) } else { Err(format!("{sent} were sent and {arrived} arrived").into()) }
    }

    /// One latency for each operation: their median is the value.
    fn latencies(&self, mut each: Vec<Duration>) -> Sample {
        each.sort_unstable();
        let [p50, p99] = [50, 99].map(|percent| percentile(&each, percent));
        let rate = self.rate(each.len() as u64);
        Sample { value: p50, p50_us: Some(p50), p99_us: Some(p99), ..rate }
    }
}

/// Asks again and again, one request after the reply to another; `ask` returns how long its reply is.
pub(super) async fn ask_in_turn(
    load: Load,
    mut ask: impl AsyncFnMut() -> Result<usize, Failure>,
) -> Result<Sample, Failure> {
    let mut watch = Stopwatch::start(load);
    let (mut times, mut is_warm) = (Vec::new(), false);
    while watch.elapsed() < load.time {
        let begun = Instant::now();
        if ask().await? != load.size {
            return Err("a reply of another length".into());
        }
        times.push(begun.elapsed());
        if !is_warm && watch.elapsed() > load.warm_up {
            (watch, is_warm) = (Stopwatch::start(load), true);
            times.clear();
        }
    }
    Ok(watch.latencies(times))
}

/// Makes one after another, each until it is done.
pub(super) async fn make_in_turn(
    load: Load,
    mut make: impl AsyncFnMut(u64) -> Result<(), Failure>,
) -> Result<Sample, Failure> {
    let watch = Stopwatch::start(load);
    let mut made = 0;
    while watch.elapsed() < load.time {
        made += 1;
        make(made).await?;
    }
    Ok(watch.rate(made))
}

/// In microseconds, that so many of a hundred do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}

pub(crate) fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Of a child with all its threads, in ticks of 10 ms; of one that has ended, zero.
fn cpu_time_of(process: u32) -> Duration {
    let ticks = fs::read_to_string(format!("/proc/{process}/stat")).ok().and_then(|stat| {
        // the name of the program before may hold spaces
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_whitespace().skip(11).map(str::parse::<u64>);
        Some(fields.next()?.ok()? + fields.next()?.ok()?)
    });
    Duration::from_secs_f64(ticks.unwrap_or(0) as f64 / clock_ticks_per_second() as f64)
}

/// What is in memory of this process, in KiB.
pub(crate) fn resident_kib() -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let times: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        assert_eq!([50, 99, 100].map(|percent| percentile(&times, percent)), [100.0, 198.0, 200.0]);
        assert!(percentile(&[], 50).is_nan());
    }

    #[test]
    fn processor_time_passes_with_work_and_memory_is_used() {
        let load = Load { size: 0, time: Duration::ZERO, warm_up: Duration::ZERO, helper: None };
        let watch = Stopwatch::start(load);
        let mut sum = 0u64;
        while cpu_time() == watch.cpu || cpu_time_of(std::process::id()).is_zero() {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(watch.rate(10).cpu_us_per_op.unwrap() > 0.0);
        assert!(resident_kib().unwrap() > 100.0);
    }
}
