//! Key files: one line of text each, mode 0600, written whole or not at all, and never over another file.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::Path,
};

use p2pcore::{Identity, NetworkKey, Role, SecretKey, ServerKey, id::ParseKeyError};
use zeroize::Zeroizing;

use super::failure::Failure;

/// Writes `network.key` and `server.key`, both or none.
pub(super) fn new_network(dir: &Path) -> Result<(), Failure> {
    make_dir(dir)?;
    let (network, server) = (dir.join("network.key"), dir.join("server.key"));
    for path in [&network, &server] {
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
    }
    write_new(&network, &NetworkKey::from_bytes(random()?).to_text())?;
    write_new(&server, &ServerKey::from_bytes(random()?).to_text()).inspect_err(|_| {
        let _ = fs::remove_file(&network);
    })
}

/// Writes a new identity.
pub(super) fn new_identity(role: Role, path: &Path) -> Result<Identity, Failure> {
    let secret = SecretKey::from_bytes(random()?);
    write_new(path, &secret.to_text())?;
    Ok(Identity::new(role, secret))
}

/// Reads the identity, or makes it where that is allowed and there is none.
pub(super) fn identity(role: Role, path: &Path, make: bool) -> Result<Identity, Failure> {
    if make && path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return new_identity(role, path);
    }
    Ok(Identity::new(role, read("identity", path, SecretKey::from_text)?))
}

pub(super) fn network_key(path: &Path) -> Result<NetworkKey, Failure> {
    read("network key", path, NetworkKey::from_text)
}

pub(super) fn server_key(path: &Path) -> Result<ServerKey, Failure> {
    read("server key", path, ServerKey::from_text)
}

/// Makes the directory and what leads to it, for its owner only; one that exists stays as it is.
pub(super) fn make_dir(dir: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| Failure::io(format_args!("cannot make the directory `{}`", dir.display()), &error))
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Failure::new(format_args!("the system has no randomness: {error}")))?;
    Ok(bytes)
}

fn read<T>(what: &str, path: &Path, parse: impl Fn(&str) -> Result<T, ParseKeyError>) -> Result<T, Failure> {
    /// Far more than a key: a wrong path may lead to a huge file.
    const LIMIT: u64 = 1024;
    let mut text = Zeroizing::new(String::new());
    fs::File::open(path)
        .and_then(|file| file.take(LIMIT).read_to_string(&mut text))
        .map_err(|error| Failure::io(format_args!("cannot read the {what} `{}`", path.display()), &error))?;
    parse(&text).map_err(|error| Failure::new(format_args!("the {what} `{}` is malformed: {error}", path.display())))
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let dir = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let write = || {
        // made with mode 0600
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path)?;
        fs::File::open(dir)?.sync_all()
    };
    write().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => Failure::io(format_args!("cannot write `{}`", path.display()), &error),
    })
}

fn exists(path: &Path) -> Failure {
    Failure::new(format_args!("`{}` exists already: keys are never overwritten", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_network_is_written_for_its_owner_only_and_never_twice() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("made");
        new_network(&dir).unwrap();
        let before = ["network.key", "server.key"].map(|name| fs::read(dir.join(name)).unwrap());
        for name in ["network.key", "server.key"] {
            assert_eq!(fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(new_network(&dir).unwrap_err().to_string().contains("exists already"));
        assert_eq!(before, ["network.key", "server.key"].map(|name| fs::read(dir.join(name)).unwrap()));
        assert!(network_key(&dir.join("network.key")).is_ok());
        assert!(server_key(&dir.join("server.key")).is_ok());
    }

    #[test]
    fn one_key_that_exists_keeps_the_other_from_being_written() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("server.key"), "mine").unwrap();
        assert!(new_network(dir.path()).is_err());
        assert!(!dir.path().join("network.key").exists());
        assert_eq!(fs::read(dir.path().join("server.key")).unwrap(), b"mine");
    }

    #[test]
    fn an_identity_is_made_once_and_only_where_that_is_allowed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.key");
        assert!(identity(Role::Peer, &path, false).unwrap_err().to_string().contains("no such file"));
        let made = identity(Role::Peer, &path, true).unwrap();
        assert_eq!(identity(Role::Peer, &path, true).unwrap().id(), made.id());
        assert_eq!(identity(Role::Peer, &path, false).unwrap().id(), made.id());
        assert_ne!(identity(Role::Server, &path, false).unwrap().id(), made.id());
    }

    #[test]
    fn a_malformed_key_is_refused_without_repeating_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("network.key");
        fs::write(&path, "p2pcore-network-key 0123").unwrap();
        let error = network_key(&path).unwrap_err().to_string();
        assert!(error.contains("malformed") && !error.contains("0123"), "{error}");
        fs::write(&path, [0xff; 10]).unwrap();
        assert!(network_key(&path).is_err());
    }
}
