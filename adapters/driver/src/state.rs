//! The state directory: what outlives a node. Each file is replaced whole or not at all, and carries a checksum.
//!
//! `identity.key` the key pair; `incarnation` the count of starts; `core.state` what the node asked to keep; `lock` held
//! while a node runs.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use p2pcore::Id;

use crate::StateError;

/// The file of what the node asked to keep.
const STATE: &str = "core.state";
/// The first bytes of each file: what it is, and the version of its layout.
const MAGIC: &[u8; 16] = b"p2pcore-state 1\n";
const HASH: usize = 32;
const HEADER: usize = MAGIC.len() + Id::LEN + HASH;
/// The largest file that is read; far above what a node keeps.
const MAX_FILE: u64 = 256 * 1024 * 1024;

/// A state directory that this process alone uses.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    owner: Id,
    _lock: File,
}

impl StateDir {
    /// Makes the directory if it is missing and takes its lock.
    pub(crate) fn open(path: &Path, owner: Id) -> Result<Self, StateError> {
        let unwritable = |source| StateError::Unwritable { path: path.into(), source };
        make_directory(path).map_err(unwritable)?;
        let lock = private_file().truncate(false).open(path.join("lock")).map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.into(), owner, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse { path: path.into() }),
            Err(TryLockError::Error(source)) => Err(unwritable(source)),
        }
    }

    /// The counter for this start, on disk before it is returned: above every earlier one, and at least
    /// `unix_seconds`, so that a node that lost its disk is still the newer one.
    pub(crate) fn next_incarnation(&self, unix_seconds: u64) -> Result<u64, StateError> {
        let path = self.path.join("incarnation");
        let last = match self.read(&path)? {
            None => 0,
            Some(bytes) => {
                let bytes = bytes.as_ref().try_into();
                u64::from_le_bytes(bytes.map_err(|_| self.damaged(&path, "it has the wrong length"))?)
            }
        };
        let next =
            last.checked_add(1).ok_or_else(|| self.damaged(&path, "the counter is at its end"))?.max(unix_seconds);
        self.write("incarnation", &next.to_le_bytes())?;
        Ok(next)
    }

    /// What the last run asked to keep.
    pub(crate) fn load(&self) -> Result<Option<Bytes>, StateError> {
        self.read(&self.path.join(STATE))
    }

    /// What [`load`](Self::load) gave is whole, but the node cannot read it.
    pub(crate) fn unreadable(&self, why: impl fmt::Display) -> StateError {
        self.damaged(&self.path.join(STATE), why)
    }

    /// Replaces what [`load`](Self::load) gives; it is on disk when this returns.
    pub(crate) fn save(&self, state: &[u8]) -> Result<(), StateError> {
        self.write(STATE, state)
    }

    fn damaged(&self, path: &Path, what: impl fmt::Display) -> StateError {
        let is_membership = self.owner.is_server() && path.ends_with(STATE);
        let then = if is_membership { "to come back as a new member" } else { "to start anew" };
        StateError::Damaged { path: path.into(), what: what.to_string(), then }
    }

    fn read(&self, path: &Path) -> Result<Option<Bytes>, StateError> {
        let mut bytes = Vec::new();
        match File::open(path).and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StateError::Unreadable { path: path.into(), source }),
        }
        let header = bytes.first_chunk::<HEADER>().ok_or_else(|| self.damaged(path, "it is too short"))?;
        let (magic, rest) = header.split_at(MAGIC.len());
        let (owner, hash) = rest.split_at(Id::LEN);
        if magic != MAGIC {
            return Err(self.damaged(path, "it is no state file of this version"));
        }
        if *checksum(owner, &bytes[HEADER..]).as_bytes() != *hash {
            return Err(self.damaged(path, "the checksum is wrong"));
        }
        let owner =
            owner.first_chunk().and_then(Id::from_bytes).ok_or_else(|| self.damaged(path, "it names no owner"))?;
        if owner != self.owner {
            return Err(StateError::Foreign { path: path.into(), owner });
        }
        Ok(Some(Bytes::from(bytes).slice(HEADER..)))
    }

    fn write(&self, name: &str, payload: &[u8]) -> Result<(), StateError> {
        let path = self.path.join(name);
        // one name for the temporary file: what a crash leaves behind is overwritten, and the lock keeps others away
        let temporary = self.path.join(format!("{name}.tmp"));
        let owner = self.owner.to_bytes();
        let write = || -> io::Result<()> {
            let mut file = private_file().truncate(true).open(&temporary)?;
            file.write_all(MAGIC)?;
            file.write_all(&owner)?;
            file.write_all(checksum(&owner, payload).as_bytes())?;
            file.write_all(payload)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            sync_directory(&self.path)
        };
        write().map_err(|source| StateError::Write { path, source })
    }
}

/// Makes a rename durable; systems other than Unix do not let a directory be opened for that.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

fn checksum(owner: &[u8], payload: &[u8]) -> blake3::Hash {
    blake3::Hasher::new_derive_key("p2pcore 2026 checksum of a state file").update(owner).update(payload).finalize()
}

fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use p2pcore::{Identity, Role, SecretKey};

    use super::*;

    fn id(seed: u8) -> Id {
        Identity::new(Role::Server, SecretKey::from_bytes([seed; 32])).id()
    }

    fn open(path: &Path) -> StateDir {
        StateDir::open(path, id(1)).unwrap()
    }

    #[test]
    fn what_was_saved_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let state = open(&path);
        assert_eq!(state.load().unwrap(), None);
        state.save(b"one").unwrap();
        state.save(b"two").unwrap();
        drop(state);
        assert_eq!(open(&path).load().unwrap().as_deref(), Some(&b"two"[..]));
    }

    #[test]
    fn the_incarnation_grows_whatever_the_clock_does() {
        let dir = tempfile::tempdir().unwrap();
        let next = |seconds| open(dir.path()).next_incarnation(seconds).unwrap();
        assert_eq!([next(0), next(0), next(1_000), next(5), next(2_000)], [1, 2, 1_000, 1_001, 2_000]);
    }

    #[test]
    fn two_nodes_do_not_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path());
        let error = StateDir::open(dir.path(), id(1)).unwrap_err();
        assert!(matches!(error, StateError::InUse { .. }), "{error}");
        drop(first);
        open(dir.path());
    }

    #[test]
    fn a_torn_file_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("core.state");
        let state = open(dir.path());
        state.save(b"something to lose").unwrap();
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            let error = state.load().unwrap_err();
            assert!(matches!(error, StateError::Damaged { .. }), "{len}: {error}");
            let line = error.to_string();
            assert!(line.ends_with(": restore it, or remove it to come back as a new member"), "{line}");
            assert!(line.contains("core.state") && !line.contains('\n'), "{line}");
            assert_eq!(fs::read(&path).unwrap(), &whole[..len]);
        }
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).unwrap();
            assert!(state.load().is_err(), "{at}");
        }
        fs::write(&path, &whole).unwrap();
        assert!(state.load().is_ok());
    }

    #[test]
    fn a_torn_incarnation_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("incarnation");
        fs::write(&path, b"12\n").unwrap();
        let error = open(dir.path()).next_incarnation(9).unwrap_err();
        assert!(error.to_string().ends_with("remove it to start anew"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"12\n");
    }

    #[test]
    fn a_foreign_file_is_refused_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        StateDir::open(dir.path(), id(2)).unwrap().save(b"theirs").unwrap();
        let error = open(dir.path()).load().unwrap_err();
        assert!(matches!(&error, StateError::Foreign { owner, .. } if *owner == id(2)), "{error}");
        fs::write(dir.path().join("core.state"), [b'x'; 200]).unwrap();
        assert!(matches!(open(dir.path()).load(), Err(StateError::Damaged { .. })));
    }

    #[test]
    fn what_a_crash_left_behind_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let state = open(dir.path());
        state.save(b"old").unwrap();
        fs::write(dir.path().join("core.state.tmp"), [b'x'; 500]).unwrap();
        assert_eq!(state.load().unwrap().as_deref(), Some(&b"old"[..]));
        state.save(b"new").unwrap();
        assert_eq!(state.load().unwrap().as_deref(), Some(&b"new"[..]));
    }

    #[test]
    fn an_unwritable_directory_is_one_clear_line() {
        let dir = tempfile::tempdir().unwrap();
        // a file in the way stops even root, whom permissions do not
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = StateDir::open(&file.join("state"), id(1)).unwrap_err();
        assert!(matches!(error, StateError::Unwritable { .. }), "{error}");
        assert!(error.to_string().starts_with("cannot write to the directory") && !error.to_string().contains('\n'));
    }

    #[test]
    fn a_failed_write_leaves_the_old_state() {
        let dir = tempfile::tempdir().unwrap();
        let state = open(dir.path());
        state.save(b"old").unwrap();
        fs::create_dir(dir.path().join("core.state.tmp")).unwrap();
        assert!(matches!(state.save(b"new"), Err(StateError::Write { .. })));
        assert_eq!(state.load().unwrap().as_deref(), Some(&b"old"[..]));
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        open(&path).save(b"secret").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&path.join("core.state"))), (0o700, 0o600));
    }
}
