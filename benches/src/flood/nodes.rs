//! The honest: two peers that meet directly and two that meet by way of the server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use p2pcore::{
    Id,
    node::{Outcome, SendOptions},
};
use p2pcore_driver::NodeHandle;
use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    peers::{meet, reader},
    process::{JoinOptions, Ready, Usage, lines, print_line, threads},
};

/// Messages that each honest pair sends a second.
pub(super) const PER_SECOND: u32 = 500;
const SIZE: usize = 200;
/// How long an honest message is of use.
const OF_USE: Duration = Duration::from_millis(500);

/// What the honest had of one flood, in percent of what was offered: the answer to `run MILLISECONDS`.
#[derive(Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) direct: f64,
    pub(super) relayed: f64,
    pub(super) to_server: f64,
}

/// An answer of the honest.
#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Usage(Usage),
    Run(Run),
}

pub(crate) fn run_honest(join: &JoinOptions) -> Result<(), Failure> {
    threads()?.block_on(async {
        let mut peers = Vec::new();
        for number in 1..=4 {
            peers.push(join.peer(number, number > 2).await?);
        }
        let [a, b, c, d] = &peers[..] else { return Err("four peers".into()) };
        [b, d].into_iter().for_each(|node| drop(reader(node.clone())));
        let pairs = [(a.clone(), b.id()), (c.clone(), d.id()), (a.clone(), join.id)];
        for (from, to) in &pairs {
            meet(from, *to).await?;
        }
        print_line(&Ready::new(a)?)?;
        lines(async |line| {
            let Some(ms) = line.strip_prefix("run ") else { return Ok(Answer::Usage(Usage::now(0)?)) };
            let time = Duration::from_millis(ms.parse()?);
            let [one, two, three] = pairs.each_ref().map(|(from, to)| tokio::spawn(traffic(from.clone(), *to, time)));
            let (direct, relayed, to_server) = (one.await?, two.await?, three.await?);
            Ok(Answer::Run(Run { direct, relayed, to_server }))
        })
        .await
    })
}

/// Sends at a fixed pace; what came in time, in percent of what was offered.
async fn traffic(from: NodeHandle, to: Id, time: Duration) -> f64 {
    let offered = (time.as_secs_f64() * f64::from(PER_SECOND)) as u32;
    let in_time = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut waiting = Vec::new();
    for number in 0..offered {
        let due = begun + Duration::from_secs(1) * number / PER_SECOND;
        tokio::time::sleep_until(due.into()).await;
        if due.elapsed() >= OF_USE {
            continue;
        }
        let options = SendOptions::default().ttl(OF_USE);
        let Ok(mut outcomes) = from.try_send(&[to], Bytes::from_static(&[7; SIZE]), options) else { continue };
        let in_time = Arc::clone(&in_time);
        waiting.push(tokio::spawn(async move {
            while let Some((_, outcome)) = outcomes.next().await {
                if outcome == Outcome::Delivered && due.elapsed() < OF_USE * 2 {
                    in_time.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
    }
    for task in waiting {
        let _ = task.await;
    }
    100.0 * in_time.load(Ordering::Relaxed) as f64 / f64::from(offered.max(1))
}
