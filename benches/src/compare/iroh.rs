//! iroh with its defaults, on loopback sockets only: no lookup of addresses, and no relay but one in this process.

use std::net::Ipv4Addr;

use bytes::Bytes;
use iroh::{
    Endpoint, EndpointAddr, RelayConfig, RelayMap, RelayMode, RelayUrl,
    endpoint::{Builder, Connection, RecvStream, SendStream, VarInt, presets},
    tls::CaRootsConfig,
};
use iroh_relay::server::{Server, ServerConfig, testing};

use super::{
    Doing, Load, Work,
    meter::{Sample, make_in_turn},
    streams::{self, Connected, Reader, WholeReader, Writer},
};
use crate::Failure;

const ALPN: &[u8] = b"p2pcore-benches";

/// The works that iroh does.
pub(super) fn begin(work: Work, load: Load) -> Option<Doing> {
    match work {
        Work::Rr => Some(Box::pin(request_reply(load, false))),
        Work::RelayRr => Some(Box::pin(request_reply(load, true))),
        Work::Msg => Some(Box::pin(messages(load, false))),
        Work::RelayMsg => Some(Box::pin(messages(load, true))),
        Work::Bulk => Some(Box::pin(bulk(load))),
        Work::Handshake => Some(Box::pin(handshakes(load))),
        Work::Idle | Work::Fanout => None,
    }
}

fn on_loopback() -> Result<Builder, Failure> {
    Ok(Endpoint::builder(presets::Minimal).clear_ip_transports().bind_addr((Ipv4Addr::LOCALHOST, 0))?)
}

async fn listener(builder: Builder) -> Result<Endpoint, Failure> {
    Ok(builder.alpns(vec![ALPN.to_vec()]).bind().await?)
}

fn direct(endpoint: &Endpoint) -> EndpointAddr {
    endpoint.bound_sockets().into_iter().fold(EndpointAddr::new(endpoint.id()), EndpointAddr::with_ip_addr)
}

/// iroh's own relay: TLS, which its clients verify.
struct Relay {
    server: Server,
    url: RelayUrl,
}

impl Relay {
    async fn start() -> Result<Self, Failure> {
        let server =
            Server::spawn(ServerConfig::<()> { relay: Some(testing::relay_config()), ..ServerConfig::default() })
                .await?;
        let url = server.https_url().ok_or("the relay does not listen")?;
        Ok(Self { server, url })
    }

    /// An endpoint without sockets of its own, so that nothing goes past the relay.
    fn only(&self) -> Builder {
        let map = RelayMap::from(RelayConfig::new(self.url.clone(), None));
        Endpoint::builder(presets::Minimal)
            .clear_ip_transports()
            .relay_mode(RelayMode::Custom(map))
            .ca_roots_config(CaRootsConfig::custom(self.server.certificates().unwrap_or_default()))
    }
}

/// Two endpoints and the connection between them, as each side has it.
struct World {
    here: Connection,
    there: Connection,
    endpoints: [Endpoint; 2],
    relay: Option<Relay>,
}

impl World {
    async fn new(relayed: bool) -> Result<Self, Failure> {
        let relay = if relayed { Some(Relay::start().await?) } else { None };
        let builder = || relay.as_ref().map_or_else(on_loopback, |relay| Ok(relay.only()));
        let (client, server) = (builder()?.bind().await?, listener(builder()?).await?);
        let address = match &relay {
            Some(relay) => {
                server.online().await;
                EndpointAddr::new(server.id()).with_relay_url(relay.url.clone())
            }
            None => direct(&server),
        };
        let accepted = async { server.accept().await.ok_or("the server is closed")?.await.map_err(Failure::from) };
        let dialled = async { client.connect(address, ALPN).await.map_err(Failure::from) };
        let (there, here) = tokio::try_join!(accepted, dialled)?;
        Ok(Self { here, there, endpoints: [client, server], relay })
    }

    async fn close(self) {
        for endpoint in &self.endpoints {
            endpoint.close().await;
        }
        drop(self.relay);
    }
}

impl Connected for Connection {
    type Writer = SendStream;
    type Reader = RecvStream;

    async fn open(&self) -> Result<(SendStream, RecvStream), Failure> {
        Ok(self.open_bi().await?)
    }

    async fn accept(&self) -> Result<(SendStream, RecvStream), Failure> {
        Ok(self.accept_bi().await?)
    }
}

impl Writer for SendStream {
    async fn write_slice(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.write_all(bytes).await?)
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        Ok(self.write_chunk(bytes).await?)
    }

    async fn end(&mut self) -> Result<(), Failure> {
        Ok(self.finish()?)
    }

    async fn receipt(&mut self) -> Result<(), Failure> {
        self.stopped().await?;
        Ok(())
    }
}

impl Reader for RecvStream {
    async fn read(&mut self) -> Result<Option<usize>, Failure> {
        Ok(self.read_chunk(usize::MAX).await?.map(|chunk| chunk.bytes.len()))
    }
}

impl WholeReader for RecvStream {
    async fn read_all(&mut self) -> Result<Bytes, Failure> {
        Ok(self.read_to_end(1 << 20).await?.into())
    }
}

async fn request_reply(load: Load, relayed: bool) -> Result<Sample, Failure> {
    let world = World::new(relayed).await?;
    let server = streams::answer(world.there.clone());
    let sample = streams::ask(load, &world.here).await;
    world.close().await;
    server.await??;
    sample
}

async fn messages(load: Load, relayed: bool) -> Result<Sample, Failure> {
    let world = World::new(relayed).await?;
    let there = world.there.clone();
    let accepted = async move { Ok(there.accept_uni().await?) };
    let sample = streams::messages(load, world.here.open_uni().await?, accepted).await;
    world.close().await;
    sample
}

async fn bulk(load: Load) -> Result<Sample, Failure> {
    let world = World::new(false).await?;
    let there = world.there.clone();
    let accepted = async move { Ok(there.accept_uni().await?) };
    let sample = streams::bulk(load, world.here.open_uni().await?, accepted).await;
    world.close().await;
    sample
}

/// Endpoints one after another, each bound, connected and closed.
async fn handshakes(load: Load) -> Result<Sample, Failure> {
    let server = listener(on_loopback()?).await?;
    let accepting = server.clone();
    let acceptor = tokio::spawn(async move {
        while let Some(incoming) = accepting.accept().await {
            tokio::spawn(async move {
                if let Ok(connection) = incoming.await {
                    connection.closed().await;
                }
            });
        }
    });
    let sample = make_in_turn(load, async |_| {
        let client = on_loopback()?.bind().await?;
        let connection = client.connect(direct(&server), ALPN).await?;
        connection.close(VarInt::from_u32(0), b"");
        // it drains for a while, which nobody waits for at the other systems either
        tokio::spawn(async move { client.close().await });
        Ok(())
    })
    .await;
    server.close().await;
    acceptor.await?;
    sample
}
