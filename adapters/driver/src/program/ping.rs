//! `ping`: the round trip to the program of another node, and the kind of path.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use p2pcore::Id;
use serde::Serialize;

use super::{
    Program,
    cli::PingArgs,
    failure::Failure,
    guest::{self, Guest},
    internal::Internal,
};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between an answer and the next question.
const INTERVAL: Duration = Duration::from_millis(500);

pub(super) fn run(program: &Program, args: &PingArgs) -> Result<(), Failure> {
    let answered = AtomicBool::new(false);
    let interrupted = || match answered.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err(Failure::new("interrupted")),
    };
    guest::run(program, &args.guest, interrupted, |guest| ping(guest, args.id, args.count, &answered))
}

/// A line for each question.
#[derive(Serialize)]
struct Pong {
    event: &'static str,
    id: Id,
    seq: u32,
    rtt_ms: Option<u64>,
    kind: Option<&'static str>,
    via: Option<Id>,
    reason: Option<&'static str>,
}

impl Pong {
    fn text(&self, rtt: Duration) -> String {
        let Self { id, seq, .. } = self;
        if let Some(reason) = self.reason {
            return format!("{id}: seq={seq} no answer: {reason}\n");
        }
        let via = self.via.map(|via| format!(" via {via}")).unwrap_or_default();
        let kind = self.kind.unwrap_or("unknown");
        format!("{id}: seq={seq} time={:.2} ms path={kind}{via}\n", rtt.as_secs_f64() * 1e3)
    }
}

async fn ping(guest: Arc<Guest>, id: Id, count: u32, answered: &AtomicBool) -> Result<(), Failure> {
    guest.inbox.close();
    guest.connected().await?;
    let mut last = Err(guest::unreachable(id, p2pcore::Reason::Timeout));
    for seq in 1..=count {
        if seq > 1 {
            guest.sleep(INTERVAL).await;
        }
        let question = Internal::Ping(seq.to_be_bytes().to_vec().into());
        // the first question waits for the directory and for the link
        if seq == 1 {
            let _ = guest.ask(id, &question, TIMEOUT).await;
        }
        let start = Instant::now();
        let answer = guest.handle.request(id, question.encode(), Some(TIMEOUT)).await;
        let rtt = start.elapsed();
        let (kind, via) = guest.path(id).await;
        let kind = kind.map(|kind| kind.as_str());
        let reason = answer.as_ref().err().map(|error| error.reason());
        let rtt_ms = answer.is_ok().then(|| u64::try_from(rtt.as_millis()).unwrap_or(u64::MAX));
        let pong = Pong { event: "pong", id, seq, rtt_ms, kind, via, reason: reason.map(|reason| reason.as_str()) };
        guest.say(&pong, || pong.text(rtt)).await;
        match reason {
            None => {
                answered.store(true, Ordering::Relaxed);
                last = Ok(());
            }
            Some(reason) if last.is_err() => last = Err(guest::unreachable(id, reason)),
            Some(_) => {}
        }
    }
    last
}
