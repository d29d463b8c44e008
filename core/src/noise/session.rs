//! The Noise handshake as quinn-proto's crypto session.

use std::{any::Any, collections::VecDeque, sync::Arc};

use quinn_proto::{
    ConnectError, ConnectionId, Side, TransportError,
    crypto::{
        ClientConfig, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig, UnsupportedVersion,
    },
    transport_parameters::TransportParameters,
};
use snow::HandshakeState;

use super::{
    FIRST_ID_LEN, Handshake, HandshakeError, QUIC_VERSION, check_first_id,
    messages::{self, Assembly},
    schedule::{self, Exporter, Secrets},
    x25519::Resolver,
};
use crate::{Cipher, Id, PublicKey, Role, rng::Rng};

pub(super) const PATTERN: &str = "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2s";

/// What [`peer_identity`](quinn_proto::crypto::Session::peer_identity) gives, boxed: who is at the other end, proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteKey {
    /// The static key that the remote has shown to hold.
    pub public: PublicKey,
    /// What the remote says it is; it may not choose another role without changing its Id.
    pub role: Role,
    /// The Id that follows from both.
    pub id: Id,
}

pub(super) struct Client {
    pub(super) handshake: Arc<Handshake>,
    pub(super) expected: Option<Id>,
    pub(super) first_id: [u8; FIRST_ID_LEN],
    pub(super) seed: [u8; 32],
}

impl ClientConfig for Client {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        _server_name: &str,
        parameters: &TransportParameters,
    ) -> Result<Box<dyn quinn_proto::crypto::Session>, ConnectError> {
        if version != QUIC_VERSION {
            return Err(ConnectError::UnsupportedVersion);
        }
        let parameters = messages::write_parameters(parameters);
        let offer = messages::offer(&self.handshake.ciphers, &parameters);
        let noise = begin(&self.handshake, Side::Client, &self.first_id, self.seed, &parameters);
        let expected = self.expected;
        let mut session =
            Session::new(Arc::clone(&self.handshake), Side::Client, Await::Answer { expected }, noise, parameters);
        let message = session.write(&offer).map_err(|_| ConnectError::EndpointStopping)?;
        session.outbox.push_back(Flight { bytes: message, keys: None });
        Ok(Box::new(session))
    }
}

pub(super) struct Server {
    pub(super) handshake: Arc<Handshake>,
    pub(super) seed: [u8; 32],
}

impl ServerConfig for Server {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        // past this point quinn-proto answers some malformed packets before it decrypts anything
        let key = &self.handshake.network_key;
        if version != QUIC_VERSION || check_first_id(key, dst_cid, self.handshake.id()).is_none() {
            return Err(UnsupportedVersion);
        }
        Ok(schedule::initial_keys(key, dst_cid, Side::Server))
    }

    /// There is no Retry: a tag that no client accepts.
    fn retry_tag(&self, _version: u32, _orig_dst_cid: &ConnectionId, _packet: &[u8]) -> [u8; 16] {
        [0; 16]
    }

    fn start_session(
        self: Arc<Self>,
        _version: u32,
        parameters: &TransportParameters,
    ) -> Box<dyn quinn_proto::crypto::Session> {
        let parameters = messages::write_parameters(parameters);
        let noise = messages::original_destination(&parameters)
            .ok_or(HandshakeError::Internal)
            .and_then(|first_id| begin(&self.handshake, Side::Server, &first_id, self.seed, &parameters));
        Box::new(Session::new(Arc::clone(&self.handshake), Side::Server, Await::Offer, noise, parameters))
    }
}

pub(super) struct Deaf {
    pub(super) handshake: Arc<Handshake>,
}

impl ServerConfig for Deaf {
    fn initial_keys(&self, _version: u32, _dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        Err(UnsupportedVersion)
    }

    fn retry_tag(&self, _version: u32, _orig_dst_cid: &ConnectionId, _packet: &[u8]) -> [u8; 16] {
        [0; 16]
    }

    /// Not called without Initial keys; the session could not get anywhere.
    fn start_session(
        self: Arc<Self>,
        _version: u32,
        _parameters: &TransportParameters,
    ) -> Box<dyn quinn_proto::crypto::Session> {
        let noise = Err(HandshakeError::Internal);
        Box::new(Session::new(Arc::clone(&self.handshake), Side::Server, Await::Offer, noise, Vec::new()))
    }
}

/// The ephemeral key depends on `parameters` too, where each connection has an id of its own: a seed that serves two
/// connections gives neither the other's key.
fn begin(
    handshake: &Handshake,
    side: Side,
    first_id: &[u8; FIRST_ID_LEN],
    seed: [u8; 32],
    parameters: &[u8],
) -> Result<HandshakeState, HandshakeError> {
    let rng = Rng::from_seed(*blake3::keyed_hash(&seed, parameters).as_bytes());
    let resolver = Resolver { rng, static_public: *handshake.identity.public() };
    let psk = schedule::psk(&handshake.network_key);
    let prologue = schedule::prologue(&handshake.network_key, first_id);
    let pattern = PATTERN.parse().map_err(|_| HandshakeError::Internal)?;
    let state = snow::Builder::with_resolver(pattern, Box::new(resolver))
        .psk(0, &psk)
        .and_then(|builder| builder.prologue(&prologue))
        .and_then(|builder| builder.local_private_key(handshake.identity.secret().as_bytes()))
        .and_then(|builder| if side.is_client() { builder.build_initiator() } else { builder.build_responder() });
    state.map_err(|_| HandshakeError::Internal)
}

/// What the remote has to send next.
#[derive(Clone, Copy)]
enum Await {
    /// Message 1, by the server.
    Offer,
    /// Message 2, by the client.
    Answer { expected: Option<Id> },
    /// The server's byte at Handshake level, by the client: message 3 goes out after it, so that a server that has
    /// message 3 has nothing left to send again when quinn-proto drops its Handshake keys.
    Confirmation,
    /// Message 3, by the server.
    Finish,
    /// Nothing any more.
    Nothing,
}

/// Bytes to write at the present level, and the keys of the next one.
struct Flight {
    bytes: Vec<u8>,
    keys: Option<Keys>,
}

struct Session {
    handshake: Arc<Handshake>,
    side: Side,
    awaited: Await,
    /// Until the handshake is over or has failed.
    noise: Result<Box<HandshakeState>, HandshakeError>,
    parameters: Vec<u8>,
    assembly: Assembly,
    outbox: VecDeque<Flight>,
    cipher: Option<Cipher>,
    remote: Option<RemoteKey>,
    remote_parameters: Option<TransportParameters>,
    application: Option<(Secrets, Exporter)>,
    /// Whether quinn-proto holds the keys of the next update.
    has_next_keys: bool,
}

impl Session {
    fn new(
        handshake: Arc<Handshake>,
        side: Side,
        awaited: Await,
        noise: Result<HandshakeState, HandshakeError>,
        parameters: Vec<u8>,
    ) -> Self {
        let noise = noise.map(Box::new);
        Self {
            handshake,
            side,
            awaited,
            noise,
            parameters,
            assembly: Assembly::default(),
            outbox: VecDeque::new(),
            cipher: None,
            remote: None,
            remote_parameters: None,
            application: None,
            has_next_keys: false,
        }
    }

    /// Takes CRYPTO bytes; whether the cipher has just been settled.
    fn receive(&mut self, bytes: &[u8]) -> Result<bool, HandshakeError> {
        // bytes that come before our answer to the last message went out are from no level that they belong to
        if !self.outbox.is_empty() {
            return Err(HandshakeError::Malformed);
        }
        match self.awaited {
            Await::Confirmation if bytes == [messages::CONFIRM] => self.on_confirmation(),
            Await::Confirmation | Await::Nothing => Err(HandshakeError::Malformed),
            Await::Offer | Await::Answer { .. } | Await::Finish => {
                let Some(message) = self.assembly.push(bytes)? else { return Ok(false) };
                match self.awaited {
                    Await::Offer => self.on_offer(&message),
                    Await::Answer { expected } => self.on_answer(&message, expected),
                    _ => self.on_finish(&message),
                }
            }
        }
    }

    fn on_offer(&mut self, message: &[u8]) -> Result<bool, HandshakeError> {
        let payload = self.read(message)?;
        let (offered, parameters) = messages::read_offer(&payload)?;
        self.remote_parameters = Some(messages::read_parameters(self.side, parameters)?);
        let cipher = messages::choose(&self.handshake.ciphers, &offered).ok_or(HandshakeError::NoCommonCipher)?;
        let answer = messages::answer(cipher, self.handshake.id().role(), &self.parameters);
        let bytes = self.write(&answer)?;
        let keys = Secrets::handshake(cipher, self.noise()?).keys(self.side);
        self.outbox.push_back(Flight { bytes, keys: Some(keys) });
        self.outbox.push_back(Flight { bytes: vec![messages::CONFIRM], keys: None });
        self.cipher = Some(cipher);
        self.awaited = Await::Finish;
        Ok(true)
    }

    fn on_answer(&mut self, message: &[u8], expected: Option<Id>) -> Result<bool, HandshakeError> {
        let payload = self.read(message)?;
        let (cipher, role, parameters) = messages::read_answer(&payload)?;
        if !self.handshake.ciphers.contains(&cipher) {
            return Err(HandshakeError::NoCommonCipher);
        }
        let remote = self.remote_key(role)?;
        if expected.is_some_and(|expected| expected != remote.id) {
            return Err(HandshakeError::WrongId);
        }
        self.remote_parameters = Some(messages::read_parameters(self.side, parameters)?);
        let keys = Secrets::handshake(cipher, self.noise()?).keys(self.side);
        self.outbox.push_back(Flight { bytes: Vec::new(), keys: Some(keys) });
        self.remote = Some(remote);
        self.cipher = Some(cipher);
        self.awaited = Await::Confirmation;
        Ok(true)
    }

    fn on_confirmation(&mut self) -> Result<bool, HandshakeError> {
        let bytes = self.write(&messages::finish(self.handshake.id().role()))?;
        self.finish(bytes)
    }

    fn on_finish(&mut self, message: &[u8]) -> Result<bool, HandshakeError> {
        let payload = self.read(message)?;
        let role = messages::read_finish(&payload)?;
        self.remote = Some(self.remote_key(role)?);
        self.finish(Vec::new())
    }

    fn finish(&mut self, bytes: Vec<u8>) -> Result<bool, HandshakeError> {
        let cipher = self.cipher.ok_or(HandshakeError::Internal)?;
        let (secrets, exporter) = Secrets::application(cipher, self.noise()?);
        self.outbox.push_back(Flight { bytes, keys: Some(secrets.keys(self.side)) });
        self.application = Some((secrets, exporter));
        self.awaited = Await::Nothing;
        self.noise = Err(HandshakeError::Malformed);
        self.parameters = Vec::new();
        Ok(false)
    }

    fn remote_key(&mut self, role: Role) -> Result<RemoteKey, HandshakeError> {
        let key = self.noise()?.get_remote_static().and_then(|key| key.try_into().ok());
        let public = PublicKey(key.ok_or(HandshakeError::Internal)?);
        Ok(RemoteKey { public, role, id: Id::from_key(role, &public) })
    }

    fn read(&mut self, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let mut payload = vec![0; messages::MAX_MESSAGE];
        let len = self.noise()?.read_message(message, &mut payload).map_err(|_| HandshakeError::NotAuthentic)?;
        payload.truncate(len);
        Ok(payload)
    }

    fn write(&mut self, payload: &[u8]) -> Result<Vec<u8>, HandshakeError> {
        let mut message = [0; messages::MAX_MESSAGE];
        let len = self.noise()?.write_message(payload, &mut message).map_err(|error| match error {
            // a key of small order, found when it is first used
            snow::Error::Dh => HandshakeError::NotAuthentic,
            _ => HandshakeError::Internal,
        })?;
        message.get(..len).map(messages::frame).ok_or(HandshakeError::Internal)
    }

    fn noise(&mut self) -> Result<&mut HandshakeState, HandshakeError> {
        self.noise.as_deref_mut().map_err(|error| *error)
    }
}

impl quinn_proto::crypto::Session for Session {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        schedule::initial_keys(&self.handshake.network_key, dst_cid, side)
    }

    /// The [`Cipher`] agreed on.
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.cipher.map(|cipher| Box::new(cipher) as _)
    }

    /// The [`RemoteKey`], proven: at the client from message 2 on, at the server from message 3 on.
    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        self.remote.map(|remote| Box::new(remote) as _)
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        None
    }

    fn is_handshaking(&self) -> bool {
        !matches!(self.awaited, Await::Nothing) || !self.outbox.is_empty() || self.application.is_none()
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        self.receive(buf).map_err(|error| {
            self.awaited = Await::Nothing;
            self.noise = Err(error);
            error.into()
        })
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        Ok(self.remote_parameters)
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let mut flight = self.outbox.pop_front()?;
        if matches!(self.awaited, Await::Nothing) && self.outbox.is_empty() {
            self.outbox = VecDeque::new();
        }
        buf.append(&mut flight.bytes);
        flight.keys
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let (secrets, _) = self.application.as_mut()?;
        // quinn-proto asks when the handshake is done, and again each time it takes what it got last into use
        if std::mem::replace(&mut self.has_next_keys, true) {
            self.handshake.note_key_update();
        }
        Some(secrets.update(self.side))
    }

    /// There is no Retry.
    fn is_valid_retry(&self, _orig_dst_cid: &ConnectionId, _header: &[u8], _payload: &[u8]) -> bool {
        false
    }

    /// The same at both ends, bound to the whole handshake.
    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        let (_, exporter) = self.application.as_ref().ok_or(ExportKeyingMaterialError)?;
        exporter.export(output, label, context)
    }
}
