//! What the fuzz target of the files does: keys and state of any content.

use std::{fs, path::Path, sync::OnceLock};

use p2pcore::{Id, Identity, Role, SecretKey};

use crate::{StateError, keys, state::StateDir};

/// Files of keys and of state hold what `data` says: they are read or refused with a reason of one line, and nothing that
/// is refused is overwritten.
///
/// # Panics
/// If a file is changed because it was bad, or what was written is not read back.
pub fn files(data: &[u8]) {
    let Some((&kind, bytes)) = data.split_first() else { return };
    let directory = directory();
    match kind % 4 {
        0 => key_file(directory, bytes),
        1 => state_file(directory, bytes),
        2 => altered(directory, bytes, "core.state"),
        _ => altered(directory, bytes, "incarnation"),
    }
}

fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<tempfile::TempDir> = OnceLock::new();
    DIRECTORY.get_or_init(|| tempfile::tempdir().expect("a directory for scratch files")).path()
}

fn owner() -> Id {
    Identity::new(Role::Server, SecretKey::from_bytes([1; 32])).id()
}

fn refused(error: &StateError) {
    let line = error.to_string();
    assert!(!line.contains('\n'), "{line}");
}

/// Any bytes where a key is expected.
fn key_file(directory: &Path, bytes: &[u8]) {
    let path = directory.join("any.key");
    fs::write(&path, bytes).expect("scratch");
    let read = [
        keys::network_key(&path).map(|key| key.to_text()),
        keys::server_key(&path).map(|key| key.to_text()),
        keys::identity(Role::Peer, &path).map(|identity| identity.secret().to_text()),
        keys::identity_or_new(Role::Peer, &path).map(|identity| identity.secret().to_text()),
    ];
    for key in read {
        match key {
            Ok(text) => assert_eq!(text.trim_end().as_bytes().to_ascii_lowercase(), trimmed(bytes)),
            Err(error) => refused(&error),
        }
    }
    for made in [keys::new_network_key(&path).err(), keys::new_identity(Role::Peer, &path).err()] {
        assert!(matches!(made, Some(StateError::Exists { .. })), "{made:?}");
    }
    assert_eq!(fs::read(&path).expect("it is there"), bytes, "a key was overwritten");
}

fn trimmed(bytes: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(bytes).trim_end().as_bytes().to_ascii_lowercase()
}

/// Any bytes where a state is expected.
fn state_file(directory: &Path, bytes: &[u8]) {
    let state = StateDir::open(directory, owner()).expect("nobody else has it");
    for name in ["core.state", "incarnation"] {
        fs::write(directory.join(name), bytes).expect("scratch");
        judge(&state, directory, name, bytes);
    }
}

/// A file that was good, with some bytes changed, cut or added: the first three bytes say where and how.
fn altered(directory: &Path, bytes: &[u8], name: &str) {
    let state = StateDir::open(directory, owner()).expect("nobody else has it");
    let [low, high, change, payload @ ..] = bytes else { return };
    state.save(payload).expect("scratch");
    assert_eq!(state.load().expect("it was written just now").as_deref(), Some(payload));
    let mut file = fs::read(directory.join("core.state")).expect("it is there");
    let at = usize::from(u16::from_le_bytes([*low, *high])) % (file.len() + 1);
    match change % 4 {
        0 => file.truncate(at),
        1 => file.insert(at, *change),
        _ => file.get_mut(at).into_iter().for_each(|byte| *byte ^= change),
    }
    fs::write(directory.join(name), &file).expect("scratch");
    judge(&state, directory, name, &file);
}

fn judge(state: &StateDir, directory: &Path, name: &str, bytes: &[u8]) {
    let failed = if name == "core.state" { state.load().err() } else { state.next_incarnation(7).err() };
    if let Some(error) = failed {
        refused(&error);
        assert_eq!(fs::read(directory.join(name)).expect("it is there"), bytes, "{name} was overwritten: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_replayed() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/files");
        let mut replayed = 0;
        for entry in fs::read_dir(&folder).expect("the corpus is in the tree") {
            files(&fs::read(entry.expect("a readable folder").path()).expect("a readable file"));
            replayed += 1;
        }
        assert!(replayed > 0);
    }
}
