//! What was found: a table for people, one line of JSON for programs, and whether the goals are met.

use std::fmt;

use serde::Serialize;

use super::{System, Work, meter::Sample};
use crate::Failure;

/// All rounds.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) rounds: u32,
    rows: Vec<Row>,
}

/// One work of one system, in all rounds.
#[derive(Debug)]
pub(super) struct Row {
    work: Work,
    size: usize,
    system: System,
    samples: Vec<Sample>,
}

/// What is printed of a row. What does not apply is null.
#[derive(Debug, Serialize)]
struct Figures {
    work: Work,
    system: System,
    size: usize,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
    ratio_to_quinn: Option<f64>,
    cpu_us_per_op: Option<f64>,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    kib_per_link: Option<f64>,
}

/// A claim, and whether it held.
#[derive(Debug, Serialize)]
struct Goal {
    name: &'static str,
    goal: String,
    value: f64,
    met: bool,
}

/// What of a sample is compared.
type Figure = fn(&Sample) -> Option<f64>;

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

const VALUE: Figure = |sample| Some(sample.value);
const CPU: Figure = |sample| sample.cpu_us_per_op;

/// Ratios to plain quinn in the same round.
const GOALS: [(&str, Work, usize, Figure, Bound); 12] = [
    ("request/reply of 64 B, p50", Work::Rr, 64, VALUE, Bound::AtMost(1.1)),
    ("request/reply of 1 KiB, p50", Work::Rr, 1_024, VALUE, Bound::AtMost(1.1)),
    ("bulk", Work::Bulk, 256 << 20, VALUE, Bound::AtLeast(1.2)),
    ("bulk, CPU", Work::Bulk, 256 << 20, CPU, Bound::AtMost(0.8)),
    ("messages of 64 B", Work::Msg, 64, VALUE, Bound::AtLeast(0.45)),
    ("messages of 1 KiB", Work::Msg, 1_024, VALUE, Bound::AtLeast(1.15)),
    ("handshakes", Work::Handshake, 0, VALUE, Bound::AtLeast(0.95)),
    ("relayed messages of 1 KiB", Work::RelayMsg, 1_024, VALUE, Bound::AtLeast(0.95)),
    ("relayed messages of 1 KiB, CPU", Work::RelayMsg, 1_024, CPU, Bound::AtMost(1.05)),
    ("1 peer", Work::Fanout, 1, VALUE, Bound::AtLeast(1.05)),
    ("10 peers", Work::Fanout, 10, VALUE, Bound::AtLeast(1.05)),
    ("100 peers", Work::Fanout, 100, VALUE, Bound::AtLeast(1.05)),
];
/// KiB for an idle link and end.
const IDLE: f64 = 28.0;

impl Row {
    pub(super) fn new((work, size): (Work, usize), system: System) -> Self {
        Self { work, size, system, samples: Vec::new() }
    }

    fn unit(&self) -> &'static str {
        match self.work {
            Work::Rr | Work::RelayRr => "us",
            Work::Msg | Work::RelayMsg | Work::Fanout => "messages/s",
            Work::Bulk => "bytes/s",
            Work::Handshake => "handshakes/s",
            Work::Idle => "KiB",
        }
    }

    fn values(&self, figure: Figure) -> Vec<f64> {
        self.samples.iter().filter_map(figure).collect()
    }
}

impl Report {
    pub(super) fn new(rows: impl Iterator<Item = Row>) -> Self {
        Self { rounds: 0, rows: rows.collect() }
    }

    pub(super) fn add(&mut self, work: Work, size: usize, system: System, sample: Sample) {
        if let Some(row) = self.rows.iter_mut().find(|row| (row.work, row.size, row.system) == (work, size, system)) {
            row.samples.push(sample);
        }
    }

    pub(super) fn json(&self) -> Result<String, Failure> {
        #[derive(Serialize)]
        struct Line {
            rounds: u32,
            results: Vec<Figures>,
            goals: Vec<Goal>,
        }
        let results = self.rows.iter().filter_map(|row| self.figures(row)).collect();
        Ok(serde_json::to_string(&Line { rounds: self.rounds, results, goals: self.goals() })?)
    }

    fn row(&self, work: Work, size: usize, system: System) -> Option<&Row> {
        self.rows.iter().find(|row| (row.work, row.size, row.system) == (work, size, system))
    }

    /// The median over the rounds of what a system has beside plain quinn in the same round.
    fn ratio(&self, work: Work, size: usize, system: System, figure: Figure) -> Option<f64> {
        let [own, yardstick] = [system, System::Quinn].map(|system| self.row(work, size, system));
        let pairs = own?.values(figure).into_iter().zip(yardstick?.values(figure));
        median(pairs.map(|(own, yardstick)| own / yardstick).collect())
    }

    fn figures(&self, row: &Row) -> Option<Figures> {
        let values = row.values(VALUE);
        let of = |figure: Figure| median(row.values(figure));
        Some(Figures {
            work: row.work,
            system: row.system,
            size: row.size,
            unit: row.unit(),
            median: of(VALUE)?,
            min: values.iter().copied().reduce(f64::min)?,
            max: values.iter().copied().reduce(f64::max)?,
            ratio_to_quinn: self.ratio(row.work, row.size, row.system, VALUE),
            cpu_us_per_op: of(CPU),
            p50_us: of(|sample| sample.p50_us),
            p99_us: of(|sample| sample.p99_us),
            kib_per_link: of(|sample| sample.kib_per_link),
        })
    }

    fn goals(&self) -> Vec<Goal> {
        let ratios = GOALS.iter().filter_map(|(name, work, size, figure, bound)| {
            let value = self.ratio(*work, *size, System::P2pcore, *figure)?;
            let (goal, met) = match bound {
                Bound::AtLeast(least) => (format!("at least {least} x quinn"), value >= *least),
                Bound::AtMost(most) => (format!("at most {most} x quinn"), value <= *most),
            };
            Some(Goal { name, goal, value, met })
        });
        let idle = self.rows.iter().find(|row| row.work == Work::Idle && row.system == System::P2pcore);
        let idle = idle.and_then(|row| median(row.values(VALUE))).map(|value| Goal {
            name: "memory of an idle link and end",
            goal: format!("at most {IDLE} KiB"),
            value,
            met: value <= IDLE,
        });
        ratios.chain(idle).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<10}{:>10} {:<8}{:>13}{:>13}{:>13} {:<13}{:>9}{:>10}{:>9}{:>9}",
            "work", "size", "system", "median", "min", "max", "unit", "x quinn", "CPU us/op", "p50 us", "p99 us"
        )?;
        let optional = |value: Option<f64>, digits| value.map_or(String::new(), |value| format!("{value:.digits$}"));
        for it in self.rows.iter().filter_map(|row| self.figures(row)) {
            writeln!(
                f,
                "{:<10}{:>10} {:<8}{:>13.1}{:>13.1}{:>13.1} {:<13}{:>9}{:>10}{:>9}{:>9}",
                it.work,
                it.size,
                it.system,
                it.median,
                it.min,
                it.max,
                it.unit,
                optional(it.ratio_to_quinn, 2),
                optional(it.cpu_us_per_op, 4),
                optional(it.p50_us, 1),
                optional(it.p99_us, 1),
            )?;
        }
        writeln!(f)?;
        for goal in self.goals() {
            let verdict = if goal.met { "met" } else { "missed" };
            writeln!(f, "{verdict:<7}{:<34}{:>8.2}  {}", goal.name, goal.value, goal.goal)?;
        }
        Ok(())
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle)?;
    if values.len() % 2 == 1 { Some(*upper) } else { Some((values.get(middle.checked_sub(1)?)? + upper) / 2.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(own: [f64; 3], quinn: [f64; 3]) -> Report {
        let row = |system| Row::new((Work::Msg, 64), system);
        let mut report = Report::new([System::Quinn, System::P2pcore].map(row).into_iter());
        for (own, quinn) in own.into_iter().zip(quinn) {
            let sample = |value| Sample { value, cpu_us_per_op: Some(1.0), ..Sample::default() };
            report.add(Work::Msg, 64, System::Quinn, sample(quinn));
            report.add(Work::Msg, 64, System::P2pcore, sample(own));
            report.rounds += 1;
        }
        report
    }

    #[test]
    fn a_ratio_is_the_median_of_those_within_a_round() {
        // the machine was half as fast in the second round
        let report = report([100.0, 50.0, 120.0], [200.0, 100.0, 200.0]);
        assert_eq!(report.ratio(Work::Msg, 64, System::P2pcore, VALUE), Some(0.5));
        let goals = report.goals();
        assert_eq!(goals.iter().map(|goal| (goal.name, goal.met)).collect::<Vec<_>>(), [("messages of 64 B", true)]);
        assert!(!super::tests::report([40.0; 3], [100.0; 3]).goals()[0].met);
    }

    #[test]
    fn the_json_has_the_keys_that_scripts_rely_on() {
        let line: serde_json::Value = serde_json::from_str(&report([1.0; 3], [2.0; 3]).json().unwrap()).unwrap();
        assert_eq!(line["rounds"], 3);
        let result = line["results"][1].as_object().unwrap();
        let keys = "work system size unit median min max ratio_to_quinn cpu_us_per_op p50_us p99_us kib_per_link";
        assert!(keys.split(' ').all(|key| result.contains_key(key)) && result.len() == 12, "{result:?}");
        assert_eq!((&result["work"], &result["system"]), (&"msg".into(), &"p2pcore".into()));
        assert!(result["kib_per_link"].is_null());
        let goal = line["goals"][0].as_object().unwrap();
        assert!(["name", "goal", "value", "met"].iter().all(|key| goal.contains_key(*key)));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!([vec![], vec![3.0], vec![4.0, 1.0]].map(median), [None, Some(3.0), Some(2.5)]);
    }
}
