//! X25519 (RFC 7748) for snow: erased on drop, seeded, and without the zero results of points of small order.

use curve25519_dalek::montgomery::MontgomeryPoint;
use snow::{
    Error,
    params::{CipherChoice, DHChoice, HashChoice},
    resolvers::{CryptoResolver, DefaultResolver},
    types::{Cipher, Dh, Hash, Random},
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::{PublicKey, rng::Rng};

/// The X25519 public key of `secret`.
pub fn public_key(secret: &[u8; 32]) -> [u8; 32] {
    MontgomeryPoint::mul_base_clamped(*secret).to_bytes()
}

/// Gives snow its primitives; all its randomness comes from `rng`.
pub(super) struct Resolver {
    pub(super) rng: Rng,
    /// Of the static key, which snow would otherwise compute anew in each handshake.
    pub(super) static_public: PublicKey,
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Seeded(self.rng.clone())))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let dh = X25519 { secret: Zeroizing::default(), public: [0; 32], static_public: self.static_public.0 };
        matches!(choice, DHChoice::Curve25519).then(|| Box::new(dh) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct Seeded(Rng);

impl Random for Seeded {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        self.0.fill(dest);
        Ok(())
    }
}

struct X25519 {
    secret: Zeroizing<[u8; 32]>,
    public: [u8; 32],
    static_public: [u8; 32],
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    /// Only the static key is set; ephemeral ones are generated.
    fn set(&mut self, secret: &[u8]) {
        if let Ok(secret) = secret.try_into() {
            self.secret = Zeroizing::new(secret);
            self.public = self.static_public;
        }
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        rng.try_fill_bytes(self.secret.as_mut())?;
        self.public = public_key(&self.secret);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.secret.as_ref()
    }

    fn dh(&self, public: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let public = public.first_chunk().ok_or(Error::Dh)?;
        let shared = Zeroizing::new(MontgomeryPoint(*public).mul_clamped(*self.secret).to_bytes());
        if shared.ct_eq(&[0; 32]).into() {
            return Err(Error::Dh);
        }
        out.first_chunk_mut().ok_or(Error::Dh).map(|out| *out = *shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> [u8; 32] {
        std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
    }

    // RFC 7748 section 6.1
    const ALICE: &str = "77076d0a7318a57d3c16c17251b26645\
                         4c6a53b8c36b6e5b6c4fb4bd0bdf0e5e";

    fn dh(secret: [u8; 32]) -> X25519 {
        X25519 { secret: Zeroizing::new(secret), public: public_key(&secret), static_public: [0; 32] }
    }

    #[test]
    fn agrees_with_snows_own() {
        let secret = unhex(ALICE);
        let mut theirs = DefaultResolver.resolve_dh(&DHChoice::Curve25519).unwrap();
        theirs.set(&secret);
        let ours = dh(secret);
        assert_eq!(ours.pubkey(), theirs.pubkey());
        let other = public_key(&[5; 32]);
        let (mut a, mut b) = ([0; 32], [0; 32]);
        ours.dh(&other, &mut a).unwrap();
        theirs.dh(&other, &mut b).unwrap();
        assert_eq!(a, b);
    }

    #[test]
    fn points_of_small_order_are_refused() {
        let mut out = [7; 32];
        let mut one = [0; 32];
        one[0] = 1;
        for public in [[0; 32], one] {
            assert!(matches!(dh([3; 32]).dh(&public, &mut out), Err(Error::Dh)));
        }
        assert_eq!(out, [7; 32]);
    }
}
