//! What is particular to one transport.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use loop_wire::session::{Nothing, Session};
use loop_wire::transport::{self, Connection, Listener, Options, from_fds};
use loop_wire::{Address, Code, Failure, Limits, serve};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::peer::{ECHO, Provider, hello};
use crate::rig::{patient, request, service, session};

async fn listen(path: &Path, options: &Options) -> Result<Listener, Failure> {
    transport::listen(&Address::Unix(path.into()), options).await
}

async fn pair(
    address: &Address,
    options: &Options,
    listener: &mut Listener,
) -> [Result<Connection, Failure>; 2] {
    let (connected, taken) = patient(async {
        tokio::join!(transport::connect(address, options), async {
            listener.accept().await.unwrap().unwrap().await
        })
    })
    .await;
    [connected, taken]
}

#[tokio::test]
async fn a_unix_socket_is_its_owners_and_goes_with_its_listener() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv.sock");
    let mut listener = listen(&path, &Options::default()).await.unwrap();
    let mode = path.symlink_metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for end in pair(&Address::Unix(path.clone()), &Options::default(), &mut listener).await {
        let Ok(Connection::Bytes(_, peer)) = end else {
            panic!("a connection");
        };
        let process = peer.process.expect("credentials");
        assert_eq!(process.id, Some(std::process::id() as i32));
        assert!(peer.address.contains(&format!("process {}", std::process::id())));
    }
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_is_taken_over_from_the_dead_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv.sock");
    // its listener died without cleaning up
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let living = listen(&path, &Options::default())
        .await
        .expect("the dead one's place");
    let failure = listen(&path, &Options::default()).await.expect_err("it lives");
    assert!(
        failure.message.contains("somebody listens there already"),
        "{failure}"
    );
    // a socket that another put there is not removed
    std::fs::remove_file(&path).unwrap();
    let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(living);
    assert!(path.exists());
    drop(other);
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let failure = listen(&file, &Options::default()).await.expect_err("a file");
    assert!(failure.message.contains("no socket"), "{failure}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    let far = folder.path().join("nowhere/kv.sock");
    let failure = listen(&far, &Options::default()).await.expect_err("no folder");
    assert!(failure.message.contains("kv.sock"), "{failure}");
}

#[tokio::test]
async fn of_many_that_begin_at_once_one_listens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kv.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let options = Options::default();
    let all = futures::future::join_all((0..8).map(|_| listen(&path, &options))).await;
    assert_eq!(all.iter().filter(|l| l.is_ok()).count(), 1);
}

/// As another user, for which these tests must be root's: runs python, which connects and waits for the end.
#[tokio::test]
async fn other_users_are_refused_unless_they_are_listed() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = folder.path().join("kv.sock");
    let options = Options {
        users: vec![65534],
        ..Options::default()
    };
    let mut listener = listen(&path, &options).await.unwrap();
    let script = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.recv(1)";
    for (user, fits) in [(65534, true), (65533, false)] {
        let mut child = Command::new("python3")
            .args(["-c", script])
            .arg(&path)
            .uid(user)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let taken = patient(patient(listener.accept()).await.unwrap().unwrap()).await;
        match taken {
            Ok(Connection::Bytes(io, peer)) => {
                drop(io);
                assert!(fits);
                assert_eq!(peer.process.unwrap().user, user);
            }
            Ok(_) => panic!("bytes"),
            Err(failure) => {
                assert!(!fits, "{failure}");
                assert_eq!(
                    (failure.code, failure.field("user")),
                    (Code::Unauthenticated, Some("65533"))
                );
            }
        }
        patient(child.wait()).await.unwrap();
    }
}

/// What a process of [`standard_streams_carry_a_session`] does.
#[tokio::test]
#[ignore = "another test starts it"]
async fn child_of_standard_streams() {
    let listener = transport::listen(&Address::Stdio, &Options::default())
        .await
        .unwrap();
    println!("this must not break into the session");
    let (service, _) = service(Provider::new().0, Limits::default());
    serve(listener, service).finished().await.unwrap();
}

#[tokio::test]
async fn standard_streams_carry_a_session() {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "--nocapture",
            "sockets::child_of_standard_streams",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap()).lines();
    // what the child prints comes here once its output is the session's
    while let Some(line) = patient(stderr.next_line()).await.unwrap() {
        if line.contains("must not break into") {
            break;
        }
    }
    // and what the harness had said before is passed over: it ends where the child began
    let mut stdout = child.stdout.take().unwrap();
    let mut said = vec![];
    while !said.ends_with(b"child_of_standard_streams ... ") && !said.ends_with(b"running 1 test\n") {
        said.push(patient(stdout.read_u8()).await.unwrap());
    }
    let (read, write) = (stdout.into_owned_fd().unwrap(), child.stdin.take().unwrap());
    let connection = from_fds(read, write.into_owned_fd().unwrap()).unwrap();
    let (session, driver) = session(connection, Limits::default()).await;
    let root = bytes::Bytes::from(vec![7; 1 << 20]);
    assert_eq!(
        patient(session.call(request(ECHO, root.clone())))
            .await
            .unwrap()
            .root,
        root
    );
    drop(session);
    patient(driver).await.unwrap();
    assert!(patient(child.wait()).await.unwrap().success());
}

#[tokio::test]
async fn files_and_terminals_are_no_connection() {
    let file = tempfile::tempfile().unwrap();
    let failure = from_fds(file.try_clone().unwrap().into(), file.into())
        .err()
        .expect("a file");
    assert!(
        failure.message.contains("neither a pipe nor a socket"),
        "{failure}"
    );
}

#[tokio::test]
async fn nobody_there_is_retryable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for address in [
        format!("tcp://{free}"),
        format!("ws://{free}/loop"),
        "unix:/nowhere/kv.sock".into(),
    ] {
        let address: Address = address.parse().unwrap();
        let failure = patient(transport::connect(&address, &Options::default())).await;
        let failure = failure.err().expect("nobody");
        assert_eq!(
            (failure.code, failure.retryable),
            (Code::ProviderGone, true),
            "{failure}"
        );
        assert!(failure.message.contains(&address.to_string()), "{failure}");
    }
}

/// The answer to an upgrade with these headers.
async fn upgrade(address: &Address, path: &str, headers: &str) -> (String, TcpStream) {
    let place = address.place().unwrap();
    let mut io = TcpStream::connect((place.host.as_str(), place.port))
        .await
        .unwrap();
    let asked = format!(
        "GET {path} HTTP/1.1\r\nHost: {place}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    io.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = vec![];
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(patient(io.read_u8()).await.unwrap());
    }
    (String::from_utf8(answer).unwrap(), io)
}

#[tokio::test]
async fn a_websocket_is_for_its_path_its_subprotocol_and_pages_that_are_listed() {
    let options = Options {
        origins: vec!["https://app.example.com".into()],
        ..Options::default()
    };
    let address: Address = "ws://127.0.0.1:0/loop".parse().unwrap();
    let listener = transport::listen(&address, &options).await.unwrap();
    let (service, _) = service(Provider::new().0, Limits::default());
    let server = serve(listener, service);
    let address = &server.addresses()[0];
    let ours = "Sec-WebSocket-Protocol: chat, loop.v1\r\n";
    for (path, headers, status) in [
        ("/loop", ours, "101"),
        ("/loop", "", "101"),
        ("/loop", "Origin: https://app.example.com\r\n", "101"),
        ("/other", ours, "404"),
        ("/loop", "Sec-WebSocket-Protocol: chat\r\n", "400"),
        ("/loop", "Origin: https://evil.example.com\r\n", "403"),
        ("/loop", "Origin: null\r\n", "403"),
    ] {
        let (answer, _) = upgrade(address, path, headers).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{headers}{answer}"
        );
        let chosen = answer
            .to_ascii_lowercase()
            .contains("sec-websocket-protocol: loop.v1");
        assert_eq!(chosen, (headers, status) == (ours, "101"), "{answer}");
    }
    // pings are answered, and what is too long or no message of bytes ends it
    let mask = |head: &[u8], body: &[u8]| [head, &[0; 4], body].concat();
    for frame in [
        mask(&[0x81, 0x84], b"text"),
        mask(&[0x82, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0], b""),
        mask(&[0x88, 0x80], b""),
        [&[0x82, 4][..], b"LOOP"].concat(),
    ] {
        let (_, mut io) = upgrade(address, "/loop", ours).await;
        io.write_all(&mask(&[0x89, 0x82], b"hi")).await.unwrap();
        let mut pong = [0; 4];
        patient(io.read_exact(&mut pong)).await.unwrap();
        assert_eq!(&pong, b"\x8a\x02hi");
        io.write_all(&frame).await.unwrap();
        let mut rest = vec![];
        let _ = patient(io.read_to_end(&mut rest)).await;
    }
    let connection = patient(transport::connect(address, &Options::default()))
        .await
        .unwrap();
    let Connection::Bytes(io, _) = connection else {
        panic!("bytes");
    };
    let (session, driver) = Session::connect(io, hello(false, Limits::default()), Arc::new(Nothing));
    tokio::spawn(driver);
    assert_eq!(patient(session.call(request(ECHO, "x"))).await.unwrap().root, "x");
}
