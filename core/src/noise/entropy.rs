//! Configurations for quinn-proto in which every source of entropy and of time is replaced.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use quinn_proto::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, InvalidCid, NoneTokenLog, NoneTokenStore,
    ServerConfig, TimeSource, ValidationTokenConfig,
    crypto::{self, AeadKey, CryptoError, HandshakeTokenKey, HmacKey},
};
use ring::aead;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{FIRST_ID_LEN, QUIC_VERSION};
use crate::rng::Rng;

/// Datagrams that come between a first packet and its acceptance, in bytes; the link accepts at once.
const INCOMING_BUFFER: u64 = 16 * 1024;

/// The endpoint of one link: all that it draws follows from `seed`. Connection ids of its generator that it does not
/// know are dropped in silence.
pub fn endpoint_config<F>(cid_generator: F, seed: [u8; 32]) -> EndpointConfig
where
    F: Fn() -> Box<dyn ConnectionIdGenerator> + Send + Sync + 'static,
{
    let rng = Rng::from_seed(seed);
    let reset_key = Keyed::new(rng.fork("reset key", 0));
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config
        .cid_generator(move || Box::new(Silent(cid_generator())))
        .supported_versions(vec![QUIC_VERSION])
        .grease_quic_bit(false)
        .min_reset_interval(Duration::from_secs(365 * 24 * 3600))
        .rng_seed(Some(rng.fork("endpoint", 0).bytes()));
    config
}

/// The answering side: no migration, no tokens, one connection at a time that waits for acceptance.
pub fn server_config(crypto: Arc<dyn crypto::ServerConfig>, seed: [u8; 32]) -> ServerConfig {
    let token_key = Keyed::new(Rng::from_seed(seed).fork("token key", 0));
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0).log(Arc::new(NoneTokenLog));
    let mut config = ServerConfig::new(crypto, Arc::new(token_key));
    config
        .migration(false)
        .max_incoming(1)
        .incoming_buffer_size(INCOMING_BUFFER)
        .incoming_buffer_size_total(INCOMING_BUFFER)
        .validation_token_config(tokens)
        .time_source(Arc::new(NoTime));
    config
}

/// The dialling side, with `first_id` as the first destination connection id.
pub fn client_config(crypto: Arc<dyn crypto::ClientConfig>, first_id: [u8; FIRST_ID_LEN]) -> ClientConfig {
    let mut config = ClientConfig::new(crypto);
    config
        .version(QUIC_VERSION)
        .token_store(Arc::new(NoneTokenStore))
        .initial_dst_cid_provider(Arc::new(move || ConnectionId::new(&first_id)));
    config
}

/// Says of every unknown connection id that it is not one of ours: no stateless reset is sent.
struct Silent(Box<dyn ConnectionIdGenerator>);

impl ConnectionIdGenerator for Silent {
    fn generate_cid(&mut self) -> ConnectionId {
        self.0.generate_cid()
    }

    fn validate(&self, _cid: &ConnectionId) -> Result<(), InvalidCid> {
        Err(InvalidCid)
    }

    fn cid_len(&self) -> usize {
        self.0.cid_len()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        self.0.cid_lifetime()
    }
}

/// For retry tokens, which this protocol does not have.
struct NoTime;

impl TimeSource for NoTime {
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

/// A key from the seed, for reset and address tokens.
struct Keyed(Zeroizing<[u8; 32]>);

impl Keyed {
    fn new(mut rng: Rng) -> Self {
        Self(Zeroizing::new(rng.bytes()))
    }
}

impl HmacKey for Keyed {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        blake3::Hasher::new_keyed(&self.0).update(data).finalize_xof().fill(signature_out);
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let expected = blake3::keyed_hash(&self.0, data);
        if expected.as_bytes().ct_eq(signature).into() { Ok(()) } else { Err(CryptoError) }
    }
}

impl HandshakeTokenKey for Keyed {
    fn aead_from_hkdf(&self, random_bytes: &[u8]) -> Box<dyn AeadKey> {
        let key = Zeroizing::new(*blake3::keyed_hash(&self.0, random_bytes).as_bytes());
        let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key.as_slice()).expect("the key has its length");
        Box::new(TokenKey(aead::LessSafeKey::new(key)))
    }
}

/// Seals one token: the key is new for each.
struct TokenKey(aead::LessSafeKey);

impl AeadKey for TokenKey {
    fn seal(&self, data: &mut Vec<u8>, additional_data: &[u8]) -> Result<(), CryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN]);
        let sealed = self.0.seal_in_place_append_tag(nonce, aead::Aad::from(additional_data), data);
        sealed.map_err(|ring::error::Unspecified| CryptoError)
    }

    fn open<'a>(&self, data: &'a mut [u8], additional_data: &[u8]) -> Result<&'a mut [u8], CryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN]);
        let opened = self.0.open_in_place(nonce, aead::Aad::from(additional_data), data);
        opened.map_err(|ring::error::Unspecified| CryptoError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> Keyed {
        Keyed::new(Rng::from_seed([seed; 32]))
    }

    #[test]
    fn signatures_follow_from_the_seed() {
        let mut signature = [0; 32];
        key(1).sign(b"data", &mut signature);
        assert!(key(1).verify(b"data", &signature).is_ok());
        assert!(key(2).verify(b"data", &signature).is_err());
        assert!(key(1).verify(b"date", &signature).is_err());
        assert!(key(1).verify(b"data", &signature[..16]).is_err());
    }

    #[test]
    fn tokens_open_with_their_own_key() {
        let mut token = b"token".to_vec();
        key(1).aead_from_hkdf(b"nonce").seal(&mut token, b"more").unwrap();
        assert!(key(1).aead_from_hkdf(b"other").open(&mut token.clone(), b"more").is_err());
        assert!(key(1).aead_from_hkdf(b"nonce").open(&mut token.clone(), b"less").is_err());
        assert_eq!(key(1).aead_from_hkdf(b"nonce").open(&mut token, b"more").unwrap(), b"token");
    }
}
