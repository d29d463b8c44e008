//! libp2p over QUIC, on loopback sockets only, without lookup of peers; relayed, over a circuit with Noise and Yamux in it.

use std::{collections::HashMap, io, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder,
    multiaddr::Protocol,
    noise, relay,
    request_response::{self as requests, Message, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
    yamux,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    Doing, Load, Work,
    meter::{Sample, ask_in_turn, make_in_turn},
    streams::{self, Reader, Writer},
};
use crate::Failure;

const STREAMS: StreamProtocol = StreamProtocol::new("/p2pcore/benches/streams");
const REQUESTS: StreamProtocol = StreamProtocol::new("/p2pcore/benches/requests");
const MOST: u64 = 1 << 20;
/// What a reader takes at once.
const BUFFER: usize = 64 * 1024;
/// How long two nodes may need to be connected.
const PATIENCE: Duration = Duration::from_secs(20);

/// The works that libp2p does.
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

/// Requests and replies that are nothing but their bytes.
#[derive(Clone, Default)]
struct Plain;

#[async_trait]
impl requests::Codec for Plain {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut data = Vec::new();
        io.take(MOST).read_to_end(&mut data).await?;
        Ok(data)
    }

    async fn read_response<T>(&mut self, protocol: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        self.read_request(protocol, io).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, data: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&data).await
    }

    async fn write_response<T>(&mut self, protocol: &StreamProtocol, io: &mut T, data: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        self.write_request(protocol, io, data).await
    }
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    relay: Toggle<relay::Behaviour>,
    relayed: relay::client::Behaviour,
    requests: requests::Behaviour<Plain>,
    streams: libp2p_stream::Behaviour,
}

fn swarm(is_relay: bool) -> Result<Swarm<Behaviour>, Failure> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(|key, relayed| {
            // none; the default ends a circuit after 128 KiB
            let unlimited = relay::Config { max_circuit_bytes: 0, ..relay::Config::default() };
            let relay = is_relay.then(|| relay::Behaviour::new(key.public().to_peer_id(), unlimited));
            Behaviour {
                relay: relay.into(),
                relayed,
                requests: requests::Behaviour::new([(REQUESTS, ProtocolSupport::Full)], requests::Config::default()),
                streams: libp2p_stream::Behaviour::new(),
            }
        })?
        .build();
    Ok(swarm)
}

/// Drives a node until it says what is asked for.
async fn until<T>(
    swarm: &mut Swarm<Behaviour>,
    mut what: impl FnMut(SwarmEvent<BehaviourEvent>) -> Option<T>,
) -> Result<T, Failure> {
    let found = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
                SwarmEvent::ListenerClosed { reason: Err(error), .. } => return Err(error.into()),
                event => {
                    if let Some(found) = what(event) {
                        return Ok(found);
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await?
}

/// Listens, and returns the whole address.
async fn listen(swarm: &mut Swarm<Behaviour>, address: Multiaddr) -> Result<Multiaddr, Failure> {
    swarm.listen_on(address)?;
    let address = until(swarm, |event| match event {
        SwarmEvent::NewListenAddr { address, .. } => Some(address),
        _ => None,
    })
    .await?;
    let id = *swarm.local_peer_id();
    Ok(address.with_p2p(id).unwrap_or_else(|address| address))
}

async fn listen_on_loopback(swarm: &mut Swarm<Behaviour>) -> Result<Multiaddr, Failure> {
    listen(swarm, "/ip4/127.0.0.1/udp/0/quic-v1".parse()?).await
}

async fn connect(swarm: &mut Swarm<Behaviour>, address: Multiaddr, to: PeerId) -> Result<(), Failure> {
    swarm.dial(address)?;
    until(swarm, |event| match event {
        SwarmEvent::ConnectionEstablished { peer_id, .. } if peer_id == to => Some(()),
        _ => None,
    })
    .await
}

/// A request, and who waits for the reply.
type Asked = (Vec<u8>, oneshot::Sender<Vec<u8>>);

/// A node that a task drives, as long as this lives.
struct Node {
    id: PeerId,
    control: libp2p_stream::Control,
    requests: mpsc::Sender<(PeerId, Asked)>,
    task: JoinHandle<()>,
}

impl Node {
    fn start(swarm: Swarm<Behaviour>) -> Self {
        let (requests, asked) = mpsc::channel(1);
        let (id, control) = (*swarm.local_peer_id(), swarm.behaviour().streams.new_control());
        Self { id, control, requests, task: tokio::spawn(drive(swarm, asked)) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends requests, answers each with itself, and does what else the node has to do.
async fn drive(mut swarm: Swarm<Behaviour>, mut asked: mpsc::Receiver<(PeerId, Asked)>) {
    let mut open = HashMap::new();
    loop {
        tokio::select! {
            Some((to, (data, reply))) = asked.recv() => {
                open.insert(swarm.behaviour_mut().requests.send_request(&to, data), reply);
            }
            event = swarm.select_next_some() => match event {
                SwarmEvent::Behaviour(BehaviourEvent::Requests(requests::Event::Message { message, .. })) => match message {
                    Message::Request { request, channel, .. } => {
                        // one who left misses nothing
                        let _ = swarm.behaviour_mut().requests.send_response(channel, request);
                    }
                    Message::Response { request_id, response } => {
                        if let Some(reply) = open.remove(&request_id) {
                            let _ = reply.send(response);
                        }
                    }
                },
                SwarmEvent::Behaviour(BehaviourEvent::Requests(requests::Event::OutboundFailure { request_id, .. })) => {
                    open.remove(&request_id);
                }
                _ => {}
            }
        }
    }
}

/// Who asks or sends, who answers or takes, and the relay between them.
struct World {
    here: Node,
    there: Node,
    _relay: Option<Node>,
}

impl World {
    async fn new(relayed: bool) -> Result<Self, Failure> {
        let mut there = swarm(false)?;
        let mut relay = None;
        let address = if relayed {
            let mut between = swarm(true)?;
            let address = listen_on_loopback(&mut between).await?;
            between.add_external_address(address.clone());
            relay = Some(Node::start(between));
            listen(&mut there, address.with(Protocol::P2pCircuit)).await?
        } else {
            listen_on_loopback(&mut there).await?
        };
        let there = Node::start(there);
        let mut here = swarm(false)?;
        connect(&mut here, address, there.id).await?;
        Ok(Self { here: Node::start(here), there, _relay: relay })
    }

    /// The near end of a stream, and what the far end will be.
    async fn stream(&mut self) -> Result<(Near, impl Future<Output = Result<Far, Failure>> + Send + use<>), Failure> {
        let mut incoming = self.there.control.accept(STREAMS)?;
        let near = Near(self.here.control.open_stream(self.there.id, STREAMS).await?);
        let far = async move {
            let (_, stream) = incoming.next().await.ok_or("the node has ended")?;
            Ok(Far { stream, buffer: vec![0; BUFFER] })
        };
        Ok((near, far))
    }
}

struct Near(Stream);

impl Writer for Near {
    async fn write_slice(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.0.write_all(bytes).await?)
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), Failure> {
        self.write_slice(&bytes).await
    }

    async fn end(&mut self) -> Result<(), Failure> {
        Ok(self.0.close().await?)
    }

    async fn receipt(&mut self) -> Result<(), Failure> {
        Ok(self.0.read_exact(&mut [0]).await?)
    }
}

struct Far {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Reader for Far {
    async fn read(&mut self) -> Result<Option<usize>, Failure> {
        let read = self.stream.read(&mut self.buffer).await?;
        if read == 0 {
            // streams of libp2p do not tell that they were read
            self.stream.write_all(&[1]).await?;
            self.stream.close().await?;
        }
        Ok((read > 0).then_some(read))
    }
}

/// libp2p's own request-response: a stream for each request.
async fn request_reply(load: Load, relayed: bool) -> Result<Sample, Failure> {
    let world = World::new(relayed).await?;
    ask_in_turn(load, async || {
        let (reply, replied) = oneshot::channel();
        world.here.requests.send((world.there.id, (vec![7; load.size], reply))).await?;
        Ok(replied.await?.len())
    })
    .await
}

async fn messages(load: Load, relayed: bool) -> Result<Sample, Failure> {
    let mut world = World::new(relayed).await?;
    let (near, far) = world.stream().await?;
    streams::messages(load, near, far).await
}

async fn bulk(load: Load) -> Result<Sample, Failure> {
    let mut world = World::new(false).await?;
    let (near, far) = world.stream().await?;
    streams::bulk(load, near, far).await
}

/// Nodes one after another, each made, connected and dropped.
async fn handshakes(load: Load) -> Result<Sample, Failure> {
    let mut server = swarm(false)?;
    let address = listen_on_loopback(&mut server).await?;
    let server = Node::start(server);
    make_in_turn(load, async |_| connect(&mut swarm(false)?, address.clone(), server.id).await).await
}
