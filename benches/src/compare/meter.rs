//! Time, processor time and memory of this process.

use std::{
    fs,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

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

/// Wall time and the processor time of all threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopwatch {
    wall: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self { cpu: cpu_time(), wall: Instant::now() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.wall.elapsed()
    }

    /// So many operations since the start: their rate, and the processor time of each.
    pub(super) fn rate(&self, operations: u64) -> Sample {
        let (wall, cpu) = (self.wall.elapsed(), cpu_time() - self.cpu);
        let operations = operations.max(1) as f64;
        Sample {
            value: operations / wall.as_secs_f64(),
            cpu_us_per_op: Some(cpu.as_secs_f64() * 1e6 / operations),
            ..Sample::default()
        }
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
    let mut watch = Stopwatch::start();
    let (mut times, mut is_warm) = (Vec::new(), false);
    while watch.elapsed() < load.time {
        let begun = Instant::now();
        if ask().await? != load.size {
            return Err("a reply of another length".into());
        }
        times.push(begun.elapsed());
        if !is_warm && watch.elapsed() > load.warm_up {
            (watch, is_warm) = (Stopwatch::start(), true);
            times.clear();
        }
    }
    Ok(watch.latencies(times))
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
        let watch = Stopwatch::start();
        let mut sum = 0u64;
        while cpu_time() == watch.cpu {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(watch.rate(10).cpu_us_per_op.unwrap() > 0.0);
        assert!(resident_kib().unwrap() > 100.0);
    }
}
