//! `network new` and `key new`, and the keys that a node is started with.

use std::path::Path;

use p2pcore::{Identity, Role};

use super::failure::Failure;
use crate::keys;

/// Writes `network.key` and `server.key`, both or none.
pub(super) fn new_network(dir: &Path) -> Result<(), Failure> {
    let (network, server) = (dir.join("network.key"), dir.join("server.key"));
    if let Some(path) = [&network, &server].into_iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(Failure::new(format_args!("`{}` exists already: keys are never overwritten", path.display())));
    }
    keys::new_network_key(&network)?;
    keys::new_server_key(&server).inspect_err(|_| {
        let _ = std::fs::remove_file(&network);
    })?;
    Ok(())
}

/// Writes an identity.
pub(super) fn new_identity(role: Role, path: &Path) -> Result<Identity, Failure> {
    Ok(keys::new_identity(role, path)?)
}

/// The identity in the file that was named, or that of the state directory, which is made if missing.
pub(super) fn identity(role: Role, key: Option<&Path>, state: &Path) -> Result<Identity, Failure> {
    Ok(match key {
        Some(path) => keys::identity(role, path)?,
        None => keys::identity_or_new(role, &keys::identity_path(state))?,
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    const NAMES: [&str; 2] = ["network.key", "server.key"];

    #[test]
    fn a_network_is_written_for_its_owner_only_and_never_twice() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("made");
        new_network(&dir).unwrap();
        let before = NAMES.map(|name| fs::read(dir.join(name)).unwrap());
        for name in NAMES {
            assert_eq!(fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(new_network(&dir).unwrap_err().to_string().contains("exists already"));
        assert_eq!(before, NAMES.map(|name| fs::read(dir.join(name)).unwrap()));
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
    fn an_identity_is_made_in_the_state_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.key");
        assert!(identity(Role::Peer, Some(&path), dir.path()).is_err());
        assert!(!path.exists());
        let made = identity(Role::Peer, None, dir.path()).unwrap().id();
        assert_eq!(identity(Role::Peer, None, dir.path()).unwrap().id(), made);
        assert_ne!(identity(Role::Server, None, dir.path()).unwrap().id(), made);
    }
}
