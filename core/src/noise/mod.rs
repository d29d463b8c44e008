//! Being built.
pub(crate) fn public_key(secret: &[u8; 32]) -> [u8; 32] {
    use snow::resolvers::CryptoResolver;
    let mut dh = snow::resolvers::DefaultResolver.resolve_dh(&snow::params::DHChoice::Curve25519).unwrap();
    dh.set(secret);
    dh.pubkey().try_into().unwrap()
}
