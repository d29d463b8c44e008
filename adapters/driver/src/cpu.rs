//! Which cipher suits this CPU.

use p2pcore::Cipher;

/// Puts AES first where the CPU has instructions for it, last elsewhere.
pub(crate) fn order(ciphers: &mut [Cipher]) {
    order_for(has_aes(), ciphers);
}

fn order_for(aes: bool, ciphers: &mut [Cipher]) {
    ciphers.sort_by_key(|cipher| (*cipher == Cipher::Aes128Gcm) != aes);
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::is_x86_feature_detected!("aes") && std::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_goes_first_only_where_the_cpu_has_it() {
        let mut ciphers = [Cipher::ChaCha20Poly1305, Cipher::Aes128Gcm];
        order_for(true, &mut ciphers);
        assert_eq!(ciphers, [Cipher::Aes128Gcm, Cipher::ChaCha20Poly1305]);
        order_for(false, &mut ciphers);
        assert_eq!(ciphers, [Cipher::ChaCha20Poly1305, Cipher::Aes128Gcm]);
    }
}
