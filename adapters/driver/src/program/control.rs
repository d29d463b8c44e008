//! The Unix socket of a running node, `control.sock` in its state directory.

use std::{
    fs,
    io::{self, BufReader, Write},
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use async_channel::{Receiver, Sender};

use super::{
    failure::Failure,
    lines::{self, Line, MAX_LINE},
    outlet::Outlet,
};

/// Connections at a time; more are closed at once with an error line.
const MAX_CONNECTIONS: usize = 64;
/// Lines that wait for the node; past it, they wait in the socket.
const MAX_WAITING: usize = 16;

/// Someone who sends commands.
#[derive(Debug)]
pub(super) struct Client {
    /// What it sends; closed at its end.
    pub(super) lines: Receiver<Line>,
    /// Where its answers go.
    pub(super) outlet: Outlet,
}

impl Client {
    pub(super) fn new(reader: impl io::Read + Send + 'static, outlet: Outlet) -> io::Result<Self> {
        Self::with_end(reader, outlet, || ())
    }

    fn with_end(
        reader: impl io::Read + Send + 'static,
        outlet: Outlet,
        at_end: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, lines) = async_channel::bounded(MAX_WAITING);
        thread::Builder::new().name("reader".into()).spawn(move || {
            let mut reader = BufReader::with_capacity(64 * 1024, reader);
            while let Ok(Some(line)) = lines::next(&mut reader, MAX_LINE) {
                if sender.send_blocking(line).is_err() {
                    break;
                }
            }
            at_end();
        })?;
        Ok(Self { lines, outlet })
    }
}

/// The path of the socket.
pub(super) fn path(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub(super) struct ControlSocket {
    path: PathBuf,
}

impl ControlSocket {
    /// Listens in `state`, for the owner only. A socket that a dead node left is replaced.
    pub(super) fn listen(state: &Path, clients: Sender<Client>) -> Result<Self, Failure> {
        let path = path(state);
        let cannot = |error: io::Error| match error.kind() {
            // the only thing that can be wrong with the address of a socket
            io::ErrorKind::InvalidInput => Failure::new(format_args!(
                "cannot listen on `{}`: the path is too long for a socket, choose a state directory with a shorter one",
                path.display()
            )),
            _ => Failure::io(format_args!("cannot listen on `{}`", path.display()), &error),
        };
        if let Ok(metadata) = path.symlink_metadata() {
            if !metadata.file_type().is_socket() {
                return Err(cannot(io::ErrorKind::AlreadyExists.into()));
            }
            if UnixStream::connect(&path).is_ok() {
                return Err(Failure::new(format_args!("a node is already running on `{}`", state.display())));
            }
        }
        // made where only the owner may look, and moved in when its mode is right
        let private = tempfile::Builder::new().prefix(".ctl").rand_bytes(6).tempdir_in(state).map_err(cannot)?;
        let made = private.path().join("s");
        let listener = UnixListener::bind(&made).map_err(cannot)?;
        fs::set_permissions(&made, fs::Permissions::from_mode(0o600)).map_err(cannot)?;
        fs::rename(&made, &path).map_err(cannot)?;
        let socket = Self { path: path.clone() };
        thread::Builder::new()
            .name("control".into())
            .spawn(move || {
                let open = Arc::new(AtomicUsize::new(0));
                for stream in listener.incoming() {
                    let Ok(stream) = stream else { continue };
                    // one that cannot be served is closed; the node goes on
                    if let Ok(Some(client)) = admit(stream, &open)
                        && clients.send_blocking(client).is_err()
                    {
                        break;
                    }
                }
            })
            .map_err(cannot)?;
        Ok(socket)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn admit(mut stream: UnixStream, open: &Arc<AtomicUsize>) -> io::Result<Option<Client>> {
    if open.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
        stream.write_all(b"{\"event\":\"error\",\"ref\":null,\"reason\":\"too many connections: close one\"}\n")?;
        return Ok(None);
    }
    let outlet = Outlet::new(stream.try_clone()?)?;
    open.fetch_add(1, Ordering::Relaxed);
    let count = open.clone();
    Client::with_end(stream, outlet, move || {
        count.fetch_sub(1, Ordering::Relaxed);
    })
    .map(Some)
    .inspect_err(|_| {
        open.fetch_sub(1, Ordering::Relaxed);
    })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, Read};

    use super::*;

    #[test]
    fn a_client_is_heard_and_answered_and_the_file_goes_with_the_node() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, clients) = async_channel::unbounded();
        let socket = ControlSocket::listen(dir.path(), sender).unwrap();
        let path = path(dir.path());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(dir.path().read_dir().unwrap().count(), 1, "only the socket stays");

        let mut stream = UnixStream::connect(&path).unwrap();
        stream.write_all(b"one\ntwo\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let client = clients.recv_blocking().unwrap();
        assert_eq!(client.lines.recv_blocking(), Ok(Line::Text(b"one".into())));
        assert_eq!(client.lines.recv_blocking(), Ok(Line::Text(b"two".into())));
        assert!(client.lines.recv_blocking().is_err());
        assert!(client.outlet.put_or_close(&"answer\n".into()));
        drop(client);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer\n");

        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_living_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(UnixListener::bind(path(dir.path())).unwrap());
        assert!(path(dir.path()).exists());
        let (sender, _clients) = async_channel::unbounded();
        let _socket = ControlSocket::listen(dir.path(), sender.clone()).unwrap();
        let error = ControlSocket::listen(dir.path(), sender).unwrap_err().to_string();
        assert!(error.contains("already running"), "{error}");
        assert!(UnixStream::connect(path(dir.path())).is_ok());
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_one_clear_line() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("x".repeat(100));
        fs::create_dir(&state).unwrap();
        let (sender, _clients) = async_channel::unbounded();
        let error = ControlSocket::listen(&state, sender).unwrap_err().to_string();
        assert!(error.contains("too long for a socket"), "{error}");
        assert_eq!(state.read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_way_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(path(dir.path()), "mine").unwrap();
        let (sender, _clients) = async_channel::unbounded();
        assert!(ControlSocket::listen(dir.path(), sender).is_err());
        assert_eq!(fs::read(path(dir.path())).unwrap(), b"mine");
    }

    #[test]
    fn too_many_connections_are_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, clients) = async_channel::unbounded();
        let _socket = ControlSocket::listen(dir.path(), sender).unwrap();
        let connect = || UnixStream::connect(path(dir.path())).unwrap();
        let open = (0..MAX_CONNECTIONS)
            .map(|_| {
                let stream = connect();
                (stream, clients.recv_blocking().unwrap())
            })
            .collect::<Vec<_>>();
        let mut line = String::new();
        BufReader::new(connect()).read_line(&mut line).unwrap();
        assert!(line.contains("too many connections"), "{line}");
        drop(open);
    }
}
