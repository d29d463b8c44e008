//! Key files: one line of text, mode 0600, never overwritten.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use p2pcore::{Identity, NetworkKey, Role, SecretKey, ServerKey};

use crate::StateError;

/// The largest key file that is read; a key takes about 90 bytes.
const MAX_KEY_FILE: u64 = 4_096;

/// The identity's file in a state directory.
pub fn identity_path(state: &Path) -> PathBuf {
    state.join("identity.key")
}

/// Reads a network key.
///
/// # Errors
/// `Unreadable` or `BadKey`.
pub fn network_key(path: &Path) -> Result<NetworkKey, StateError> {
    NetworkKey::from_text(&read(path)?).map_err(|source| StateError::BadKey { path: path.into(), source })
}

/// Reads a server key.
///
/// # Errors
/// `Unreadable` or `BadKey`.
pub fn server_key(path: &Path) -> Result<ServerKey, StateError> {
    ServerKey::from_text(&read(path)?).map_err(|source| StateError::BadKey { path: path.into(), source })
}

/// Reads an identity; the role is not in the file.
///
/// # Errors
/// `Unreadable` or `BadKey`.
pub fn identity(role: Role, path: &Path) -> Result<Identity, StateError> {
    let secret =
        SecretKey::from_text(&read(path)?).map_err(|source| StateError::BadKey { path: path.into(), source })?;
    Ok(Identity::new(role, secret))
}

/// Reads an identity, or makes one (and its directory) if there is no such file.
///
/// # Errors
/// Those of [`identity`] and [`new_identity`].
pub fn identity_or_new(role: Role, path: &Path) -> Result<Identity, StateError> {
    match new_identity(role, path) {
        Err(StateError::Exists { .. }) => identity(role, path),
        made => made,
    }
}

/// Makes an identity and its file.
///
/// # Errors
/// `Exists`, `Unwritable`, `Write` or `Entropy`.
pub fn new_identity(role: Role, path: &Path) -> Result<Identity, StateError> {
    let secret = SecretKey::from_bytes(random()?);
    write_new(path, &secret.to_text())?;
    Ok(Identity::new(role, secret))
}

/// Makes a network key and its file.
///
/// # Errors
/// As [`new_identity`].
pub fn new_network_key(path: &Path) -> Result<NetworkKey, StateError> {
    let key = NetworkKey::from_bytes(random()?);
    write_new(path, &key.to_text())?;
    Ok(key)
}

/// Makes a server key and its file.
///
/// # Errors
/// As [`new_identity`].
pub fn new_server_key(path: &Path) -> Result<ServerKey, StateError> {
    let key = ServerKey::from_bytes(random()?);
    write_new(path, &key.to_text())?;
    Ok(key)
}

/// Bytes from the operating system's cryptographic random source.
///
/// # Errors
/// `Entropy`.
pub fn random<const N: usize>() -> Result<[u8; N], StateError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| StateError::Entropy(error.to_string()))?;
    Ok(bytes)
}

fn read(path: &Path) -> Result<String, StateError> {
    use std::io::Read;
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAX_KEY_FILE).read_to_string(&mut text))
        .map_err(|source| StateError::Unreadable { path: path.into(), source })?;
    Ok(text)
}

/// Whole or not at all: written under a temporary name, then linked to `path` unless that exists.
fn write_new(path: &Path, text: &str) -> Result<(), StateError> {
    if path.symlink_metadata().is_ok() {
        return Err(StateError::Exists { path: path.into() });
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let unwritable = |source| StateError::Unwritable { path: directory.into(), source };
    fs::create_dir_all(directory).map_err(unwritable)?;
    // tempfile makes its files with mode 0600
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(unwritable)?;
    let write = |source| StateError::Write { path: path.into(), source };
    file.write_all(text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(write)?;
    file.persist_noclobber(path).map_err(|error| match error.error.kind() {
        io::ErrorKind::AlreadyExists => StateError::Exists { path: path.into() },
        _ => write(error.error),
    })?;
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(unwritable)
}
