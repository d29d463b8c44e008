//! The yardstick: plain quinn with its defaults, AES and mutual authentication, both ends in this process.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use quinn::{
    ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
    rustls::{
        self, RootCertStore,
        pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
        server::WebPkiClientVerifier,
    },
};
use tokio::task::JoinHandle;

use super::{
    Load,
    forwarder::Forwarder,
    meter::{Sample, Stopwatch, ask_in_turn, resident_kib},
};
use crate::Failure;

const NAME: &str = "localhost";
/// What a writer of small messages gathers before it writes.
const GATHERED: usize = 64 * 1024;
const CHUNK: usize = 64 * 1024;

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
        let verifier = WebPkiClientVerifier::builder(self.roots()?).build()?;
        let tls = rustls::ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        Ok(ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?)))
    }

    fn client(&self) -> Result<ClientConfig, Failure> {
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())?;
        Ok(ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?)))
    }
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

/// A stream for each request.
pub(super) async fn request_reply(load: Load, relayed: bool) -> Result<Sample, Failure> {
    let world = World::new(1, relayed).await?;
    let (here, there) = world.only()?;
    let server = tokio::spawn(async move {
        while let Ok((mut send, mut recv)) = there.accept_bi().await {
            let request = recv.read_to_end(1 << 20).await?;
            send.write_chunk(request.into()).await?;
            send.finish()?;
        }
        Ok::<_, Failure>(())
    });
    let data = Bytes::from(vec![7; load.size]);
    let sample = ask_in_turn(load, async || {
        let (mut send, mut recv) = here.open_bi().await?;
        send.write_chunk(data.clone()).await?;
        send.finish()?;
        Ok(recv.read_to_end(1 << 20).await?.len())
    })
    .await?;
    world.close().await;
    server.await??;
    Ok(sample)
}

/// Messages with their length before them on one stream: small ones gathered, others a chunk each. The reader tells at the
/// end that it has them all.
pub(super) async fn messages(load: Load, relayed: bool) -> Result<Sample, Failure> {
    let world = World::new(1, relayed).await?;
    let (here, there) = world.only()?;
    let reader = read_messages(there, load.size);
    let send = here.open_uni().await?;
    let watch = Stopwatch::start();
    let sent = write_messages(send, load).await?;
    let read = reader.await??;
    let sample = watch.rate(read);
    world.close().await;
    if read == sent { Ok(sample) } else { Err(format!("{sent} messages were sent and {read} arrived").into()) }
}

async fn write_messages(mut send: SendStream, load: Load) -> Result<u64, Failure> {
    let head = u32::try_from(load.size)?.to_be_bytes();
    let one: Bytes = [&head[..], &vec![7; load.size]].concat().into();
    let per_write = (GATHERED / one.len()).max(1);
    let is_gathered = load.size < 1_024;
    let begun = Instant::now();
    let mut sent = 0;
    let mut gathered = Vec::with_capacity(GATHERED);
    while begun.elapsed() < load.time {
        if is_gathered {
            for _ in 0..per_write {
                gathered.extend_from_slice(&one);
            }
            send.write_all(&gathered).await?;
            gathered.clear();
            sent += per_write as u64;
        } else {
            send.write_chunk(one.clone()).await?;
            sent += 1;
        }
    }
    send.finish()?;
    send.stopped().await?;
    Ok(sent)
}

fn read_messages(connection: Connection, size: usize) -> JoinHandle<Result<u64, Failure>> {
    tokio::spawn(async move {
        let mut recv = connection.accept_uni().await?;
        let bytes = count(&mut recv).await?;
        Ok(bytes / (size as u64 + 4))
    })
}

/// Takes all bytes of a stream in order, as they come.
async fn count(recv: &mut RecvStream) -> Result<u64, Failure> {
    let mut bytes = 0;
    while let Some(chunk) = recv.read_chunk(usize::MAX, true).await? {
        bytes += chunk.bytes.len() as u64;
    }
    Ok(bytes)
}

/// So many bytes over one stream.
pub(super) async fn bulk(load: Load) -> Result<Sample, Failure> {
    let world = World::new(1, false).await?;
    let (here, there) = world.only()?;
    let reader = tokio::spawn(async move {
        let mut recv = there.accept_uni().await?;
        count(&mut recv).await
    });
    let mut send = here.open_uni().await?;
    let chunk = Bytes::from(vec![7; CHUNK]);
    let watch = Stopwatch::start();
    for _ in 0..load.size / CHUNK {
        send.write_chunk(chunk.clone()).await?;
    }
    send.finish()?;
    let read = reader.await??;
    let sample = watch.rate(read);
    world.close().await;
    if read == load.size as u64 { Ok(sample) } else { Err(format!("{read} bytes arrived").into()) }
}

/// Connections one after another, each made, used by nobody, and closed.
pub(super) async fn handshakes(load: Load) -> Result<Sample, Failure> {
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
    let watch = Stopwatch::start();
    let mut made = 0;
    while watch.elapsed() < load.time {
        // a node of its own for each, as at the other system
        let mut client = Endpoint::client(local)?;
        client.set_default_client_config(keys.client()?);
        let connection = client.connect(address, NAME)?.await?;
        connection.close(0u32.into(), b"");
        made += 1;
    }
    let sample = watch.rate(made);
    server.close(0u32.into(), b"");
    acceptor.await?;
    Ok(sample)
}

/// One message to each of many clients in turn, over a stream each.
pub(super) async fn fan_out(load: Load, clients: usize) -> Result<Sample, Failure> {
    let world = World::new(clients, false).await?;
    let mut streams = Vec::new();
    let mut readers = Vec::new();
    for (here, there) in world.connections.clone() {
        readers.push(read_messages(here, load.size));
        streams.push(there.open_uni().await?);
    }
    let head = u32::try_from(load.size)?.to_be_bytes();
    let one: Bytes = [&head[..], &vec![7; load.size]].concat().into();
    let watch = Stopwatch::start();
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
    let sample = watch.rate(read);
    world.close().await;
    if read == sent { Ok(sample) } else { Err(format!("{sent} messages were sent and {read} arrived").into()) }
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
