//! The yardstick: plain quinn with its defaults, AES and mutual authentication, both ends in this process.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use quinn::{
    ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
    rustls::{
        self, RootCertStore,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
};

use super::{
    Doing, Load, Work,
    forwarder::Forwarder,
    meter::{Sample, Stopwatch, make_in_turn, resident_kib},
    streams::{self, Connected, Reader, WholeReader, Writer},
};
use crate::Failure;

const NAME: &str = "localhost";

/// All works but `idle`, which needs a process of its own.
pub(super) fn begin(work: Work, load: Load) -> Option<Doing> {
    Some(match work {
        Work::Rr => Box::pin(request_reply(load, false)),
        Work::RelayRr => Box::pin(request_reply(load, true)),
        Work::Msg => Box::pin(messages(load, false)),
        Work::RelayMsg => Box::pin(messages(load, true)),
        Work::Bulk => Box::pin(bulk(load)),
        Work::Handshake => Box::pin(handshakes(load)),
        Work::Fanout => Box::pin(fan_out(Load { size: 1_024, ..load }, load.size)),
        Work::Idle => return None,
    })
}

/// One certificate for all: each end shows it and trusts it.
struct Keys {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Keys {
    fn new() -> Result<Self, Failure> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Ok(Self { certificate: made.cert.der().clone(), key: key.into() })
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        Ok(Arc::new(roots))
    }

    fn server(&self) -> Result<ServerConfig, Failure> {
        let verifier = WebPkiClientVerifier::builder_with_provider(self.roots()?, crypto()).build()?;
        let tls = rustls::ServerConfig::builder_with_provider(crypto())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        Ok(ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?)))
    }

    fn client(&self) -> Result<ClientConfig, Failure> {
        let tls = rustls::ClientConfig::builder_with_provider(crypto())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        Ok(ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)))
    }
}

/// Named, since further systems may bring a second one into the build.
fn crypto() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A server, and as many clients as there are connections.
struct World {
    server: Endpoint,
    clients: Vec<Endpoint>,
    /// From client to server, and the same at the server.
    connections: Vec<(Connection, Connection)>,
    _forwarder: Option<Forwarder>,
}

impl World {
    async fn new(clients: usize, relayed: bool) -> Result<Self, Failure> {
        let keys = Keys::new()?;
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = Endpoint::server(keys.server()?, local)?;
        let mut address = server.local_addr()?;
        let mut forwarder = None;
        if relayed {
            let started = Forwarder::start(address).await?;
            address = started.address;
            forwarder = Some(started);
        }
        let mut world = Self { server, clients: Vec::new(), connections: Vec::new(), _forwarder: forwarder };
        for _ in 0..clients {
            let mut client = Endpoint::client(local)?;
            client.set_default_client_config(keys.client()?);
            let accepted =
                async { world.server.accept().await.ok_or("the server is closed")?.await.map_err(Failure::from) };
            let dialled = async { client.connect(address, NAME)?.await.map_err(Failure::from) };
            let (there, here) = tokio::try_join!(accepted, dialled)?;
            world.clients.push(client);
            world.connections.push((here, there));
        }
        Ok(world)
    }

    fn only(&self) -> Result<(Connection, Connection), Failure> {
        self.connections.first().cloned().ok_or_else(|| "no connection".into())
    }

    async fn close(self) {
        for client in &self.clients {
            client.close(0u32.into(), b"");
        }
        self.server.close(0u32.into(), b"");
        self.server.wait_idle().await;
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
        Ok(self.read_chunk(usize::MAX, true).await?.map(|chunk| chunk.bytes.len()))
    }
}

impl WholeReader for RecvStream {
    async fn read_all(&mut self) -> Result<Bytes, Failure> {
        Ok(self.read_to_end(1 << 20).await?.into())
    }
}

async fn request_reply(load: Load, relayed: bool) -> Result<Sample, Failure> {
    let world = World::new(1, relayed).await?;
    let (here, there) = world.only()?;
    let server = streams::answer(there);
    let sample = streams::ask(load, &here).await;
    world.close().await;
    server.await??;
    sample
}

async fn messages(load: Load, relayed: bool) -> Result<Sample, Failure> {
    let world = World::new(1, relayed).await?;
    let (here, there) = world.only()?;
    let accepted = async move { Ok(there.accept_uni().await?) };
    let sample = streams::messages(load, here.open_uni().await?, accepted).await;
    world.close().await;
    sample
}

async fn bulk(load: Load) -> Result<Sample, Failure> {
    let world = World::new(1, false).await?;
    let (here, there) = world.only()?;
    let accepted = async move { Ok(there.accept_uni().await?) };
    let sample = streams::bulk(load, here.open_uni().await?, accepted).await;
    world.close().await;
    sample
}

/// Connections one after another, each made, used by nobody, and closed.
async fn handshakes(load: Load) -> Result<Sample, Failure> {
    let keys = Keys::new()?;
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Endpoint::server(keys.server()?, local)?;
    let address = server.local_addr()?;
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
        // a node of its own for each, as at the other systems
        let mut client = Endpoint::client(local)?;
        client.set_default_client_config(keys.client()?);
        let connection = client.connect(address, NAME)?.await?;
        connection.close(0u32.into(), b"");
        Ok(())
    })
    .await;
    server.close(0u32.into(), b"");
    acceptor.await?;
    sample
}

/// One message to each of many clients in turn, over a stream each.
async fn fan_out(load: Load, clients: usize) -> Result<Sample, Failure> {
    let world = World::new(clients, false).await?;
    let mut streams = Vec::new();
    let mut readers = Vec::new();
    for (here, there) in world.connections.clone() {
        let accepted = async move { Ok(here.accept_uni().await?) };
        readers.push(streams::count_messages(accepted, load.size));
        streams.push(there.open_uni().await?);
    }
    let one = streams::message(load.size)?;
    let watch = Stopwatch::start(load);
    let mut sent = 0;
    while watch.elapsed() < load.time {
        for stream in &mut streams {
            stream.write_chunk(one.clone()).await?;
            sent += 1;
        }
    }
    for stream in &mut streams {
        stream.finish()?;
    }
    let mut read = 0;
    for reader in readers {
        read += reader.await??;
    }
    let sample = watch.rate_of_all(sent, read);
    world.close().await;
    sample
}

/// What a connection and end weighs that nobody uses, in KiB.
pub(super) async fn idle(ends: usize) -> Result<f64, Failure> {
    // what is there once is not counted
    let small = World::new(2, false).await?;
    let before = resident_kib()?;
    let keys = Keys::new()?;
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let server = Endpoint::server(keys.server()?, local)?;
    let mut client = Endpoint::client(local)?;
    client.set_default_client_config(keys.client()?);
    let mut kept = Vec::new();
    for _ in 0..ends / 2 {
        let accepted = async { server.accept().await.ok_or("the server is closed")?.await.map_err(Failure::from) };
        let dialled = async { client.connect(server.local_addr()?, NAME)?.await.map_err(Failure::from) };
        kept.push(tokio::try_join!(accepted, dialled)?);
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let kib = (resident_kib()? - before) / ends as f64;
    drop((kept, small));
    Ok(kib)
}
