//! Key files: one line of text, mode 0600, never overwritten.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use p2pcore::{Identity, NetworkKey, Role, SecretKey, ServerKey};

use crate::{StateError, state::sync_directory};

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
    sync_directory(directory).map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_from_their_files_under_either_role() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name| dir.path().join("made").join(name);
        assert_eq!(new_network_key(&path("network.key")).unwrap(), network_key(&path("network.key")).unwrap());
        assert_eq!(new_server_key(&path("server.key")).unwrap(), server_key(&path("server.key")).unwrap());
        let made = identity_or_new(Role::Peer, &path("identity.key")).unwrap();
        assert_eq!(identity_or_new(Role::Peer, &path("identity.key")).unwrap(), made);
        assert_eq!(identity(Role::Server, &path("identity.key")).unwrap().public(), made.public());
    }

    #[test]
    fn a_key_file_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("network.key");
        fs::write(&path, "precious").unwrap();
        let error = new_network_key(&path).unwrap_err();
        assert!(matches!(error, StateError::Exists { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn a_malformed_or_missing_key_is_one_clear_line_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("server.key");
        let unreadable = server_key(&path).unwrap_err();
        assert!(matches!(unreadable, StateError::Unreadable { .. }));
        fs::write(&path, "p2pcore-network-key 00\n").unwrap();
        let malformed = server_key(&path).unwrap_err();
        assert!(matches!(malformed, StateError::BadKey { .. }));
        fs::write(&path, [0xff; 100]).unwrap();
        let binary = server_key(&path).unwrap_err();
        for error in [unreadable, malformed, binary] {
            let line = error.to_string();
            assert!(line.contains("server.key") && !line.contains('\n'), "{line}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_a_key() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.key");
        new_identity(Role::Peer, &path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_one_clear_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = new_identity(Role::Peer, &file.join("identity.key")).unwrap_err();
        assert!(!error.to_string().contains('\n'));
        assert!(matches!(error, StateError::Unwritable { .. } | StateError::Write { .. }), "{error}");
    }
}
