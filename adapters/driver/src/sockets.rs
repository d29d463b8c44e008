//! UDP sockets with segmentation offload in both directions and ECN.

use std::{
    cell::RefCell,
    fmt, io,
    io::IoSliceMut,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    task::{Context, Poll},
};

use bytes::BytesMut;
use p2pcore::node::{Datagram, SocketId, Transmit};
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, Type};

use crate::{Runtime, StartFailure, UdpIo};

/// Listening addresses of one node.
const MAX_SOCKETS: usize = 16;
/// What the kernel is asked to buffer in each direction; it may give less.
const KERNEL_BUFFER: usize = 4 * 1024 * 1024;
/// The most that one receive or one send can carry.
const MAX_RUN: usize = 65_535;
/// The most that one send may carry: a UDP payload with the longest headers.
const MAX_SEND: usize = 65_487;

/// Binds `listen`, or any port of both IP versions if that is empty.
pub(crate) fn bind(runtime: &dyn Runtime, listen: &[SocketAddr]) -> Result<Vec<Socket>, StartFailure> {
    if listen.len() > MAX_SOCKETS {
        return Err(StartFailure::TooManyAddresses { count: listen.len(), max: MAX_SOCKETS });
    }
    let mut bound = Vec::new();
    if listen.is_empty() {
        let any: [IpAddr; 2] = [Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into()];
        let mut failed = None;
        for ip in any {
            // a machine without one of the IP versions works with the other
            match bind_one(SocketAddr::new(ip, 0)) {
                Ok(socket) => bound.push(socket),
                Err(error) => failed = Some(error),
            }
        }
        if let (true, Some(error)) = (bound.is_empty(), failed) {
            return Err(error);
        }
    } else {
        for address in listen {
            bound.push(bind_one(*address)?);
        }
    }
    let system = |source| StartFailure::System { what: "use a UDP socket", source };
    (0..).zip(bound).map(|(id, socket)| Socket::new(runtime, SocketId(id), socket).map_err(system)).collect()
}

fn bind_one(address: SocketAddr) -> Result<UdpSocket, StartFailure> {
    let bind = || -> io::Result<UdpSocket> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // larger buffers ride out bursts; the kernel's limit is as good as it gets
        let _ = socket.set_recv_buffer_size(KERNEL_BUFFER);
        let _ = socket.set_send_buffer_size(KERNEL_BUFFER);
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    bind().map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => StartFailure::PortInUse { address },
        _ => StartFailure::Listen { address, source },
    })
}

/// Whether a receive of fewer datagrams than it had room for has taken all: elsewhere there may be one in each.
const TAKES_ALL: bool = cfg!(any(target_os = "linux", target_os = "android", target_os = "freebsd"));

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        bytes: vec![0; BATCH_SIZE * MAX_RUN],
        meta: [RecvMeta::default(); BATCH_SIZE],
    });
}

/// Where datagrams are received before they are copied out at their own length: one for all nodes of a thread.
struct Scratch {
    bytes: Vec<u8>,
    meta: [RecvMeta; BATCH_SIZE],
}

/// One bound socket.
pub(crate) struct Socket {
    pub(crate) id: SocketId,
    pub(crate) local: SocketAddr,
    io: Box<dyn UdpIo>,
    offload: UdpSocketState,
}

impl Socket {
    fn new(runtime: &dyn Runtime, id: SocketId, socket: UdpSocket) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let io = runtime.udp(socket)?;
        let offload = UdpSocketState::new(io.socket())?;
        Ok(Self { id, local, io, offload })
    }

    /// Whether the kernel would take a datagram to `destination` at all.
    fn can_reach(&self, destination: SocketAddr) -> bool {
        let zoned = match destination {
            SocketAddr::V4(_) => true,
            SocketAddr::V6(v6) => !v6.ip().is_unicast_link_local() || v6.scope_id() != 0,
        };
        zoned && destination.port() != 0 && destination.is_ipv4() == self.local.is_ipv4()
    }

    /// Sends `contents` from `*sent` on and moves that forward. What the kernel refuses is dropped, as the network
    /// might do.
    ///
    /// # Errors
    /// Only `WouldBlock`; call again with the same `sent` when writable.
    pub(crate) fn send(&mut self, transmit: &Transmit, contents: &[u8], sent: &mut usize) -> io::Result<()> {
        if !self.can_reach(transmit.destination) {
            *sent = contents.len();
            return Ok(());
        }
        let segment = transmit.segment_size.unwrap_or(contents.len()).max(1);
        while *sent < contents.len() {
            let segments = self.offload.max_gso_segments().min(MAX_SEND / segment).max(1);
            let run = (segment * segments).min(contents.len() - *sent);
            let datagrams = quinn_udp::Transmit {
                destination: transmit.destination,
                ecn: EcnCodepoint::from_bits(transmit.ecn),
                contents: &contents[*sent..*sent + run],
                segment_size: (run > segment).then_some(segment),
                src_ip: transmit.source,
            };
            let offload = &self.offload;
            match self.io.try_write(&mut |socket| offload.try_send(socket, &datagrams)) {
                Ok(()) => *sent += run,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                // no segmentation offload here after all: quinn-udp has noticed and the next turn sends singly
                Err(_) if run > segment && self.offload.max_gso_segments() == 1 => {}
                Err(error) => {
                    tracing::trace!(to = %transmit.destination, %error, "not sent");
                    *sent += run;
                    self.forgive();
                }
            }
        }
        Ok(())
    }

    /// An address that the kernel refuses must not cost the other destinations the offload: quinn-udp gives it up on
    /// errors that bad addresses cause too.
    fn forgive(&mut self) {
        if self.offload.max_gso_segments() == 1
            && let Ok(fresh) = UdpSocketState::new(self.io.socket())
        {
            self.offload = fresh;
        }
    }

    /// One batch; every run of datagrams goes to `take`. Says whether there may be more.
    pub(crate) fn receive(&self, take: impl FnMut(Datagram)) -> bool {
        SCRATCH.with_borrow_mut(|scratch| self.receive_into(scratch, take))
    }

    fn receive_into(&self, scratch: &mut Scratch, mut take: impl FnMut(Datagram)) -> bool {
        let Scratch { bytes, meta } = scratch;
        let mut count = 0;
        let read = {
            let mut rooms = bytes.chunks_mut(MAX_RUN);
            let mut buffers: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(rooms.next().unwrap_or_default()));
            self.io.try_read(&mut |socket| {
                count = self.offload.recv(socket, &mut buffers, meta)?;
                // the next receive would block, which need not be asked for; what comes from now on is news to the reactor
                if TAKES_ALL && count < BATCH_SIZE { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
            })
        };
        let may_go_on = match read {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            // some systems report here what became of an earlier send
            Err(error) => {
                tracing::trace!(%error, "receive");
                true
            }
        };
        for (meta, bytes) in meta.iter().zip(bytes.chunks(MAX_RUN)).take(count) {
            let bytes = &bytes[..meta.len.min(MAX_RUN)];
            if bytes.is_empty() {
                continue;
            }
            take(Datagram {
                socket: self.id,
                remote: meta.addr,
                local_ip: meta.dst_ip,
                ecn: meta.ecn.map_or(0, |ecn| ecn as u8),
                data: BytesMut::from(bytes),
                segment_size: meta.stride.clamp(1, bytes.len()),
            });
        }
        may_go_on
    }

    /// Ready when a receive may find something. Call it only after one would have blocked.
    pub(crate) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_readable(cx)
    }

    /// Ready when a send may go through. Call it only after one would have blocked.
    pub(crate) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_writable(cx)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("id", &self.id).field("local", &self.local).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRuntime;

    #[test]
    fn without_addresses_both_ip_versions_get_a_port() {
        let sockets = bind(&TestRuntime::new(), &[]).unwrap();
        assert!(sockets.iter().any(|socket| socket.local.is_ipv4()));
        assert!(sockets.iter().all(|socket| socket.local.port() != 0 && socket.local.ip().is_unspecified()));
        assert!(sockets.iter().enumerate().all(|(at, socket)| usize::from(socket.id.0) == at));
    }

    #[test]
    fn both_ip_versions_may_have_the_same_port() {
        let Ok(six) = bind(&TestRuntime::new(), &["[::]:0".parse().unwrap()]) else { return };
        let port = six[0].local.port();
        bind(&TestRuntime::new(), &[SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)]).unwrap();
    }

    #[test]
    fn a_busy_port_is_one_clear_line() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind(&TestRuntime::new(), &[address]).unwrap_err();
        assert!(matches!(error, StartFailure::PortInUse { .. }));
        let line = error.to_string();
        assert!(line.contains(&address.to_string()) && line.contains("in use") && !line.contains('\n'), "{line}");
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        let error = bind(&TestRuntime::new(), &["192.0.2.1:0".parse().unwrap()]).unwrap_err();
        assert!(matches!(error, StartFailure::Listen { .. }), "{error}");
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let many = vec!["127.0.0.1:0".parse().unwrap(); MAX_SOCKETS + 1];
        assert!(matches!(bind(&TestRuntime::new(), &many), Err(StartFailure::TooManyAddresses { count: 17, max: 16 })));
    }

    #[test]
    fn a_refused_destination_does_not_cost_the_others_the_offload() {
        let mut socket = bind(&TestRuntime::new(), &["127.0.0.1:0".parse().unwrap()]).unwrap().remove(0);
        let before = socket.offload.max_gso_segments();
        // unreachable from loopback: the kernel says EINVAL, as it does where segmentation offload does not work
        let (transmit, bytes) = crate::testing::run("192.0.2.1:9".parse().unwrap(), vec![0; 300], Some(100));
        let mut sent = 0;
        while socket.send(&transmit, &bytes, &mut sent).is_err() {}
        assert_eq!((sent, socket.offload.max_gso_segments()), (300, before));
    }
}
