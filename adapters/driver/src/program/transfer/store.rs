//! Files that arrive: under a temporary name until they are complete and right, and never over another file.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;

use crate::program::failure::io_text;

/// One file on its way.
#[derive(Debug)]
pub(super) struct Incoming {
    file: NamedTempFile,
    name: String,
    path: PathBuf,
    bytes: u64,
    /// The hash of everything before `hashed`, as long as the pieces come in order.
    hasher: Option<blake3::Hasher>,
    hashed: u64,
}

impl Incoming {
    /// Makes the temporary file. The error is a text for the sender.
    pub(super) fn new(dir: &Path, name: &str, bytes: u64) -> Result<Self, String> {
        check_name(name)?;
        let path = dir.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(exists(name));
        }
        let file = temporary(dir).map_err(|error| cannot_store(&error))?;
        Ok(Self { file, name: name.to_owned(), path, bytes, hasher: Some(blake3::Hasher::new()), hashed: 0 })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A piece may come twice, and in any order.
    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), String> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= self.bytes);
        let end = end.ok_or("a piece is beyond the end that was announced")?;
        if self.hasher.is_some() && end <= self.hashed {
            return Ok(()); // it is there already, and in the hash
        }
        let file = self.file.as_file_mut();
        file.seek(SeekFrom::Start(offset)).and_then(|_| file.write_all(data)).map_err(|error| cannot_store(&error))?;
        match &mut self.hasher {
            Some(hasher) if offset == self.hashed => {
                hasher.update(data);
                self.hashed = end;
            }
            // it will be read again at the end
            hasher => *hasher = None,
        }
        Ok(())
    }

    /// Checks the hash, brings the file to the disk and gives it its name.
    pub(super) fn finish(mut self, blake3: &str) -> Result<PathBuf, String> {
        let hash = match self.hasher.take() {
            Some(hasher) if self.hashed == self.bytes => hasher.finalize(),
            _ => self.hash_again().map_err(|error| cannot_store(&error))?,
        };
        if hash.to_hex().as_str() != blake3 {
            return Err("the checksum is wrong: nothing was stored".into());
        }
        let stored = self
            .file
            .as_file()
            .sync_all()
            .and_then(|()| Ok(self.file.persist_noclobber(&self.path)?))
            .and_then(|_| File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all());
        match stored {
            Ok(()) => Ok(self.path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&self.name)),
            Err(error) => Err(cannot_store(&error)),
        }
    }

    fn hash_again(&mut self) -> io::Result<blake3::Hash> {
        let file = self.file.as_file_mut();
        file.seek(SeekFrom::Start(0))?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match file.read(&mut buffer)? {
                0 => return Ok(hasher.finalize()),
                len => hasher.update(&buffer[..len]),
            };
        }
    }
}

/// How the names of files on their way begin and end, with this many letters and digits between.
const PREFIX: &str = ".p2pcore-";
const SUFFIX: &str = ".part";
const RANDOM: usize = 6;

/// Removes files that were on their way when their receiver was killed. Those of living receivers are locked.
pub(super) fn remove_leftovers(dir: &Path) {
    for entry in dir.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
        let own =
            random.is_some_and(|text| text.len() == RANDOM && text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        if own
            && entry.file_type().is_ok_and(|kind| kind.is_file())
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A file that [`remove_leftovers`] leaves alone while it is open.
fn temporary(dir: &Path) -> io::Result<NamedTempFile> {
    loop {
        let mut builder = tempfile::Builder::new();
        // as any other new file: the umask has the last word
        builder.prefix(PREFIX).suffix(SUFFIX).rand_bytes(RANDOM).permissions(fs::Permissions::from_mode(0o666));
        let file = builder.tempfile_in(dir)?;
        match file.as_file().try_lock() {
            // one that was just taken for a leftover has no name any more
            Ok(()) if file.as_file().metadata()?.nlink() == 0 => {}
            Err(TryLockError::WouldBlock) => {}
            // a file system without locks: nothing is ever taken for a leftover there
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(file),
        }
    }
}

/// A base name and nothing else: what a stranger calls a file must not lead out of the directory.
fn check_name(name: &str) -> Result<(), String> {
    let base = Path::new(name).file_name().is_some_and(|base| base == name);
    if !base || name.len() > 255 || name.contains(['/', '\\']) || name.chars().any(char::is_control) {
        return Err("its name is not a plain file name".into());
    }
    Ok(())
}

fn exists(name: &str) -> String {
    format!("`{name}` exists there already, and nothing is overwritten")
}

fn cannot_store(error: &io::Error) -> String {
    format!("it cannot be stored: {}", io_text(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(data: &[u8]) -> String {
        blake3::hash(data).to_hex().to_string()
    }

    fn names(dir: &Path) -> Vec<String> {
        dir.read_dir().unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn pieces_in_any_order_and_twice_make_the_file() {
        for order in [&[0, 1, 2][..], &[2, 0, 1], &[0, 0, 1, 2, 1], &[0, 2, 1, 1]] {
            let dir = tempfile::tempdir().unwrap();
            let mut incoming = Incoming::new(dir.path(), "a", 5).unwrap();
            for index in order {
                let (offset, data) = [(0, "ab"), (2, "cd"), (4, "e")][*index];
                incoming.write(offset, data.as_bytes()).unwrap();
            }
            assert!(!dir.path().join("a").exists(), "not before it is complete");
            let path = incoming.finish(&hash(b"abcde")).unwrap();
            assert_eq!(fs::read(path).unwrap(), b"abcde");
            assert_eq!(names(dir.path()), ["a"]);
        }
    }

    #[test]
    fn a_wrong_or_short_file_is_not_stored() {
        let dir = tempfile::tempdir().unwrap();
        for data in ["abX", "ab"] {
            let mut incoming = Incoming::new(dir.path(), "a", 3).unwrap();
            incoming.write(0, data.as_bytes()).unwrap();
            assert!(incoming.finish(&hash(b"abc")).unwrap_err().contains("checksum"));
            assert!(names(dir.path()).is_empty());
        }
        let mut incoming = Incoming::new(dir.path(), "a", 3).unwrap();
        assert!(incoming.write(2, b"xy").is_err());
        assert!(incoming.write(u64::MAX, b"xy").is_err());
    }

    #[test]
    fn nothing_is_overwritten_at_the_offer_or_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut incoming = Incoming::new(dir.path(), "a", 1).unwrap();
        incoming.write(0, b"x").unwrap();
        fs::write(dir.path().join("a"), "mine").unwrap();
        assert!(incoming.finish(&hash(b"x")).unwrap_err().contains("exists"));
        assert!(Incoming::new(dir.path(), "a", 1).unwrap_err().contains("exists"));
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"mine");
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn leftovers_of_the_dead_are_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let _living = Incoming::new(dir.path(), "a", 1).unwrap();
        let mut kept = names(dir.path());
        for name in [".p2pcore-Ab3dE6.part", ".p2pcore-Ab3dE6", ".p2pcore-mine-1.part", "p2pcore-Ab3dE6.part", "a"] {
            fs::write(dir.path().join(name), "x").unwrap();
            kept.push(name.into());
        }
        kept.remove(1);
        remove_leftovers(dir.path());
        let mut left = names(dir.path());
        left.sort();
        kept.sort();
        assert_eq!(left, kept);
    }

    #[test]
    fn a_name_cannot_lead_out_of_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["", ".", "..", "a/b", "../a", "/a", "a/", "a\\b", "a\0b", "a\nb", &"x".repeat(256)] {
            assert!(Incoming::new(dir.path(), name, 1).unwrap_err().contains("plain file name"), "{name:?}");
        }
        assert!(Incoming::new(dir.path(), "ä b.txt", 1).is_ok());
    }
}
