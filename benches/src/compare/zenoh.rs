//! zenoh over TCP without TLS, as it comes, on loopback sockets only: two peers, or two clients of a router.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::mpsc;
use zenoh::{Config, Session, qos::CongestionControl, query::ConsolidationMode};

use super::{
    Doing, Load, Work,
    meter::{Sample, Stopwatch, ask_in_turn},
};
use crate::Failure;

const KEY: &str = "p2pcore/benches";
/// Messages between two looks at the clock.
const BATCH: usize = 16;
/// How long the two may need to know of each other.
const PATIENCE: Duration = Duration::from_secs(20);

/// The works that zenoh does.
pub(super) fn begin(work: Work, load: Load) -> Option<Doing> {
    match work {
        Work::Rr => Some(Box::pin(request_reply(load, false))),
        Work::RelayRr => Some(Box::pin(request_reply(load, true))),
        Work::Msg => Some(Box::pin(messages(load, false))),
        Work::RelayMsg => Some(Box::pin(messages(load, true))),
        _ => None,
    }
}

/// A session that listens if it has nobody to connect to, and looks for nobody else.
async fn session(mode: &str, connect: Option<&str>) -> Result<Session, Failure> {
    let mut config = Config::default();
    let [listen, connect] = match connect {
        Some(address) => [serde_json::json!([]), serde_json::json!([address])],
        None => [serde_json::json!(["tcp/127.0.0.1:0"]), serde_json::json!([])],
    };
    for (key, value) in [
        ("mode", mode.into()),
        ("listen/endpoints", listen),
        ("connect/endpoints", connect),
        ("scouting/multicast/enabled", false.into()),
        ("scouting/gossip/enabled", false.into()),
    ] {
        config.insert_json5(key, &value.to_string())?;
    }
    zenoh::open(config).await
}

async fn address(session: &Session) -> Result<String, Failure> {
    let locators = session.info().locators().await;
    Ok(locators.first().ok_or("the session does not listen")?.to_string())
}

/// Who asks or sends, and who answers or takes.
struct World {
    here: Session,
    there: Session,
    router: Option<Session>,
}

impl World {
    async fn new(relayed: bool) -> Result<Self, Failure> {
        if !relayed {
            let there = session("peer", None).await?;
            let here = session("peer", Some(&address(&there).await?)).await?;
            return Ok(Self { here, there, router: None });
        }
        let router = session("router", None).await?;
        let address = address(&router).await?;
        let there = session("client", Some(&address)).await?;
        let here = session("client", Some(&address)).await?;
        Ok(Self { here, there, router: Some(router) })
    }

    async fn close(self) -> Result<(), Failure> {
        for session in [Some(self.here), Some(self.there), self.router].into_iter().flatten() {
            session.close().await?;
        }
        Ok(())
    }
}

/// Asks again and again whether the other side is known.
async fn until(mut known: impl AsyncFnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    let known = async {
        while !known().await? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, known).await?
}

/// zenoh's own queries, each answered once.
async fn request_reply(load: Load, relayed: bool) -> Result<Sample, Failure> {
    let world = World::new(relayed).await?;
    let queryable = world.there.declare_queryable(KEY).await?;
    let answering = tokio::spawn(async move {
        while let Ok(query) = queryable.recv_async().await {
            let data = query.payload().cloned().unwrap_or_default();
            query.reply(KEY, data).await?;
        }
        Ok::<_, Failure>(())
    });
    // there is one answer, so that there is nothing to wait for and to compare it with
    let querier = world.here.declare_querier(KEY).consolidation(ConsolidationMode::None).await?;
    until(async || Ok(querier.matching_status().await?.matching())).await?;
    let data = Bytes::from(vec![7; load.size]);
    let sample = ask_in_turn(load, async || {
        let replies = querier.get().payload(data.clone()).await?;
        let sample = replies.recv_async().await?.into_result()?;
        Ok(sample.payload().len())
    })
    .await;
    answering.abort();
    drop(querier);
    world.close().await?;
    sample
}

/// Reliable messages of one key, the writer held up where they do not get on. zenoh has no receipts: the reader tells at the
/// end how many it has.
async fn messages(load: Load, relayed: bool) -> Result<Sample, Failure> {
    let world = World::new(relayed).await?;
    let (tell, mut told) = mpsc::unbounded_channel();
    let read = AtomicU64::new(0);
    let subscriber = world
        .there
        .declare_subscriber(KEY)
        .callback(move |sample| {
            // an empty one is the last
            if sample.payload().is_empty() {
                let _ = tell.send(read.load(Ordering::Relaxed));
            } else {
                read.fetch_add(1, Ordering::Relaxed);
            }
        })
        .await?;
    let publisher = world.here.declare_publisher(KEY).congestion_control(CongestionControl::Block).await?;
    until(async || Ok(publisher.matching_status().await?.matching())).await?;
    let data = Bytes::from(vec![7; load.size]);
    let watch = Stopwatch::start(load);
    let mut sent = 0;
    while watch.elapsed() < load.time {
        for _ in 0..BATCH {
            publisher.put(data.clone()).await?;
        }
        sent += BATCH as u64;
    }
    publisher.put(Bytes::new()).await?;
    let sample = watch.rate_of_all(sent, told.recv().await.ok_or("the subscriber has ended")?);
    drop((publisher, subscriber));
    world.close().await?;
    sample
}
