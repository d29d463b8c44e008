//! A blind UDP forwarder, as a load balancer or a TURN server without its checks: what comes from the server goes to the last
//! client, all else to the server. It takes runs of datagrams (GRO) and passes them on as such (GSO).

use std::{
    io::{self, IoSliceMut},
    net::{Ipv4Addr, SocketAddr},
};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket, task::JoinHandle};

const BUFFER: usize = 65_536;

/// Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Forwarder {
    pub(super) address: SocketAddr,
    task: JoinHandle<io::Result<()>>,
}

impl Forwarder {
    pub(super) async fn start(server: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let state = UdpSocketState::new((&socket).into())?;
        let address = socket.local_addr()?;
        Ok(Self { address, task: tokio::spawn(forward(socket, state, server)) })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(socket: UdpSocket, state: UdpSocketState, server: SocketAddr) -> io::Result<()> {
    let mut buffers = vec![vec![0; BUFFER]; BATCH_SIZE];
    let mut client = None;
    loop {
        socket.readable().await?;
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        let received = socket.try_io(Interest::READABLE, || state.recv((&socket).into(), &mut slices, &mut metas));
        let count = match received {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        for (meta, buffer) in metas.iter().zip(&buffers).take(count) {
            let destination = if meta.addr == server { client } else { Some(server) };
            if meta.addr != server {
                client = Some(meta.addr);
            }
            let Some(destination) = destination else { continue };
            for run in buffer[..meta.len].chunks(meta.stride.max(1) * state.max_gso_segments()) {
                let segment_size = (run.len() > meta.stride).then_some(meta.stride);
                let transmit = Transmit { destination, ecn: meta.ecn, contents: run, segment_size, src_ip: None };
                loop {
                    let sent = socket.try_io(Interest::WRITABLE, || state.try_send((&socket).into(), &transmit));
                    match sent {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
                        // a forwarder loses what it cannot pass on
                        _ => break,
                    }
                }
            }
        }
    }
}
