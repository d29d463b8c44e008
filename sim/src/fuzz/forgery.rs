//! Keys that seal what the fuzzer says in place of what QUIC wanted to say: any frames in packets that are authentic.

use std::{
    any::Any,
    sync::{Arc, Mutex},
};

use bytes::BytesMut;
use quinn_proto::{
    ConnectError, ConnectionId, Side, TransportError,
    crypto::{
        ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig,
        Session, UnsupportedVersion,
    },
    transport_parameters::TransportParameters,
};

/// What is to be forged next.
#[derive(Debug, Default)]
pub(super) struct Forgery {
    frames: Mutex<Option<Vec<u8>>>,
    crypto: Mutex<Option<Vec<u8>>>,
}

impl Forgery {
    /// The next packet carries these bytes as its frames, as far as they fit.
    pub(super) fn frames(&self, frames: Vec<u8>) {
        set(&self.frames, Some(frames));
    }

    /// The bytes are laid over the next handshake message: 0 leaves a byte as it is, anything else is added to it.
    pub(super) fn crypto(&self, overlay: Vec<u8>) {
        set(&self.crypto, Some(overlay));
    }

    /// Nothing is forged any more.
    pub(super) fn rest(&self) {
        set(&self.frames, None);
        set(&self.crypto, None);
    }

    fn keys(self: &Arc<Self>, keys: Keys) -> Keys {
        Keys { header: keys.header, packet: self.packets(keys.packet) }
    }

    fn packets(self: &Arc<Self>, keys: KeyPair<Box<dyn PacketKey>>) -> KeyPair<Box<dyn PacketKey>> {
        let local = Box::new(Forging { inner: keys.local, forgery: Arc::clone(self) });
        KeyPair { local, remote: keys.remote }
    }
}

fn set<T>(place: &Mutex<T>, value: T) {
    *place.lock().expect("no panic while it is held") = value;
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().expect("no panic while it is held").take()
}

struct Forging {
    inner: Box<dyn PacketKey>,
    forgery: Arc<Forgery>,
}

impl PacketKey for Forging {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        if let Some(frames) = take(&self.forgery.frames) {
            let end = buf.len() - self.inner.tag_len();
            let payload = &mut buf[header_len..end];
            payload.fill(0);
            payload.iter_mut().zip(frames).for_each(|(byte, forged)| *byte = forged);
        }
        self.inner.encrypt(packet, buf, header_len);
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        self.inner.decrypt(packet, header, payload)
    }

    fn tag_len(&self) -> usize {
        self.inner.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.inner.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.inner.integrity_limit()
    }
}

/// The crypto of a dial that forges.
pub(super) struct ForgingClient(pub(super) Arc<dyn ClientConfig>, pub(super) Arc<Forgery>);

impl ClientConfig for ForgingClient {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        parameters: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let inner = Arc::clone(&self.0).start_session(version, server_name, parameters)?;
        Ok(Box::new(ForgingSession { inner, forgery: Arc::clone(&self.1) }))
    }
}

/// The crypto of an answering side that forges.
pub(super) struct ForgingServer(pub(super) Arc<dyn ServerConfig>, pub(super) Arc<Forgery>);

impl ServerConfig for ForgingServer {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.0.initial_keys(version, dst_cid).map(|keys| self.1.keys(keys))
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, parameters: &TransportParameters) -> Box<dyn Session> {
        let inner = Arc::clone(&self.0).start_session(version, parameters);
        Box::new(ForgingSession { inner, forgery: Arc::clone(&self.1) })
    }
}

struct ForgingSession {
    inner: Box<dyn Session>,
    forgery: Arc<Forgery>,
}

impl Session for ForgingSession {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        self.forgery.keys(self.inner.initial_keys(dst_cid, side))
    }

    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.inner.handshake_data()
    }

    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.inner.peer_identity()
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        self.inner.early_crypto()
    }

    fn early_data_accepted(&self) -> Option<bool> {
        self.inner.early_data_accepted()
    }

    fn is_handshaking(&self) -> bool {
        self.inner.is_handshaking()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.inner.read_handshake(buf)
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        self.inner.transport_parameters()
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let start = buf.len();
        let keys = self.inner.write_handshake(buf).map(|keys| self.forgery.keys(keys));
        if buf.len() > start
            && let Some(overlay) = take(&self.forgery.crypto)
        {
            buf[start..].iter_mut().zip(overlay).for_each(|(byte, more)| *byte = byte.wrapping_add(more));
        }
        keys
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.inner.next_1rtt_keys()?;
        Some(self.forgery.packets(keys))
    }

    fn is_valid_retry(&self, orig_dst_cid: &ConnectionId, header: &[u8], payload: &[u8]) -> bool {
        self.inner.is_valid_retry(orig_dst_cid, header, payload)
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        self.inner.export_keying_material(output, label, context)
    }
}
