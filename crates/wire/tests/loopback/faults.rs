//! Peers that are killed or frozen, as processes of their own.

use std::future::poll_fn;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use loop_wire::session::{Request, Session};
use loop_wire::transport::{self, Options};
use loop_wire::{Address, Code, Failure, Limits, serve};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

use crate::peer::{ECHO, NEVER, Provider, STREAMS, hello};
use crate::rig::{patient, request, service, session};

/// Where a process of these tests listens or connects.
const PLACE: &str = "LOOP_TEST_PLACE";
/// What its lines for the test begin with.
const MARK: &str = "=> ";
/// So long that nobody is given up for silence.
const NEVER_IDLE: Limits = Limits {
    message: (64 << 20) + (64 << 10),
    calls: 1024,
    channels: 256,
    window: 1 << 20,
    connection: 16 << 20,
    idle: u32::MAX,
};

fn tell(line: &str) {
    println!("\n{MARK}{line}");
}

/// A process that does what the test of that name does. It is killed with the test.
struct Other {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(test: &str, place: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", &format!("faults::{test}")])
            .env(PLACE, place)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Other { child, lines }
    }

    async fn told(&mut self) -> String {
        loop {
            let line = patient(self.lines.next_line()).await.unwrap().expect("a line");
            if let Some(told) = line.strip_prefix(MARK) {
                return told.to_owned();
            }
        }
    }

    async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.child.id().unwrap() as i32).unwrap();
        kill_process(id, signal).unwrap();
    }
}

#[tokio::test]
#[ignore = "another test starts it"]
async fn child_that_provides() {
    let address: Address = std::env::var(PLACE).unwrap().parse().unwrap();
    let (provider, mut heard) = Provider::new();
    let listener = transport::listen(&address, &Options::default()).await.unwrap();
    let server = serve(listener, service(provider, NEVER_IDLE).0);
    tell(&server.addresses()[0].to_string());
    while let Some(said) = heard.recv().await {
        tell(&said);
    }
}

#[tokio::test]
#[ignore = "another test starts it"]
async fn child_that_calls() {
    let address: Address = std::env::var(PLACE).unwrap().parse().unwrap();
    let busy = Busy::begin(&address, NEVER_IDLE).await;
    tell("busy");
    let root = Bytes::from(vec![1; 4 << 20]);
    while busy.session.call(request(ECHO, root.clone())).await.is_ok() {}
}

/// A session with a call that is never answered, and a stream that never ends.
struct Busy {
    session: Session,
    driver: JoinHandle<Failure>,
    call: JoinHandle<Result<(), Failure>>,
    stream: u32,
}

impl Busy {
    async fn begin(address: &Address, limits: Limits) -> Self {
        let connection = transport::connect(address, &Options::default()).await.unwrap();
        let (session, driver) = session(connection, limits).await;
        patient(session.ready()).await.unwrap();
        let never = session.call(request(NEVER, ""));
        let endless = session.call(Request {
            streaming: true,
            ..request(STREAMS, "endless")
        });
        let stream = endless.stream();
        patient(endless).await.unwrap();
        patient(poll_fn(|cx| session.poll_read(stream, &[0], cx)))
            .await
            .unwrap();
        Busy {
            session,
            driver,
            call: tokio::spawn(async move { never.await.map(drop) }),
            stream,
        }
    }

    /// All of it ends because the provider is gone, as the call is told.
    async fn ended(self) -> Failure {
        let why = patient(self.call).await.unwrap().expect_err("nobody is there");
        assert_eq!((why.code, why.retryable), (Code::ProviderGone, false), "{why}");
        let lost = patient(async {
            loop {
                if let Err(lost) = poll_fn(|cx| self.session.poll_read(self.stream, &[0], cx)).await {
                    return lost;
                }
            }
        })
        .await;
        assert_eq!(lost.code, Code::ProviderGone, "{lost}");
        let room = poll_fn(|cx| self.session.poll_write(self.stream, &[0], cx));
        assert!(patient(room).await.is_none());
        let later = patient(self.session.call(request(ECHO, "")))
            .await
            .expect_err("nobody is there");
        assert_eq!(
            (later.code, later.retryable),
            (Code::ProviderGone, true),
            "{later}"
        );
        // with its task go the socket and what was mapped
        patient(self.driver).await.unwrap();
        why
    }
}

const SCHEMES: [&str; 3] = ["unix", "shm", "tcp"];

fn place(scheme: &str, folder: &TempDir) -> String {
    match scheme {
        "tcp" => "tcp://127.0.0.1:0".into(),
        scheme => format!("{scheme}:{}", folder.path().join("kv.sock").display()),
    }
}

#[cfg_attr(not(target_os = "linux"), ignore = "shm: is for Linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_is_killed_is_gone_at_once() {
    for scheme in SCHEMES {
        let folder = tempfile::tempdir().unwrap();
        let mut other = Other::start("child_that_provides", &place(scheme, &folder));
        let address: Address = other.told().await.parse().unwrap();
        let busy = Busy::begin(&address, NEVER_IDLE).await;
        assert_eq!(other.told().await, "began");
        let session = busy.session.clone();
        let long = tokio::spawn(async move {
            let root = Bytes::from(vec![1; 8 << 20]);
            loop {
                if let Err(failure) = session.call(request(ECHO, root.clone())).await {
                    return failure;
                }
            }
        });
        other.kill().await;
        // the connection tells it, not silence
        busy.ended().await;
        assert_eq!(patient(long).await.unwrap().code, Code::ProviderGone);
        // and what it left in the file system is in nobody's way
        let next = transport::listen(&address, &Options::default())
            .await
            .expect("its place");
        drop(next);
        assert!(folder.path().read_dir().unwrap().next().is_none());
    }
}

#[cfg_attr(not(target_os = "linux"), ignore = "shm: is for Linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_caller_began_is_stopped() {
    for scheme in SCHEMES {
        let folder = tempfile::tempdir().unwrap();
        let (provider, mut heard) = Provider::new();
        let address = place(scheme, &folder).parse().unwrap();
        let listener = transport::listen(&address, &Options::default()).await.unwrap();
        let server = serve(listener, service(provider, NEVER_IDLE).0);
        let address = server.addresses()[0].to_string();
        let mut other = Other::start("child_that_calls", &address);
        assert_eq!(other.told().await, "busy");
        assert_eq!(patient(heard.recv()).await.unwrap(), "began");
        other.kill().await;
        assert_eq!(patient(heard.recv()).await.unwrap(), "stopped", "{scheme}");
        patient(async {
            while !server.sessions().is_empty() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        // others come as before
        let busy = Busy::begin(&server.addresses()[0], NEVER_IDLE).await;
        patient(server.close(Duration::ZERO)).await;
        busy.ended().await;
    }
}

#[cfg_attr(not(target_os = "linux"), ignore = "shm: is for Linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_frozen_is_given_up_after_its_time() {
    let limits = Limits {
        idle: 600,
        ..NEVER_IDLE
    };
    for scheme in SCHEMES {
        let folder = tempfile::tempdir().unwrap();
        let mut other = Other::start("child_that_provides", &place(scheme, &folder));
        let address: Address = other.told().await.parse().unwrap();
        let busy = Busy::begin(&address, limits.clone()).await;
        assert_eq!(other.told().await, "began");
        other.signal(Signal::STOP);
        let began = Instant::now();
        let why = busy.ended().await;
        assert!(why.message.contains("nothing was heard of the peer"), "{why}");
        // what had been on its way may have come after
        assert!(
            began.elapsed() >= Duration::from_millis(200),
            "{:?}",
            began.elapsed()
        );
        other.signal(Signal::CONT);
        assert_eq!(other.told().await, "stopped");
    }
}

#[tokio::test]
async fn contracts_that_differ_are_refused_with_both_sides_words() {
    let (service, refusals) = service(Provider::new().0, Limits::default());
    let address = "tcp://127.0.0.1:0".parse().unwrap();
    let listener = transport::listen(&address, &Options::default()).await.unwrap();
    let server = serve(listener, service);
    let mut wrong = hello(false, Limits::default());
    wrong.imports[0].types[0] = vec![8; 32];
    let mut other = hello(false, Limits::default());
    other.imports[0].name = "test:wire/provider@0.2.0".into();
    let mut missing = hello(false, Limits::default());
    missing.imports[0].name = "test:wire/nothing@0.1.0".into();
    for (hello, code, fields) in [
        (
            wrong,
            Code::VersionMismatch,
            [("ours", "08".repeat(32)), ("theirs", "07".repeat(32))],
        ),
        (
            other,
            Code::VersionMismatch,
            [
                ("ours", "test:wire/provider@0.2.0".into()),
                ("theirs", "test:wire/provider@0.1.0".into()),
            ],
        ),
        (
            missing,
            Code::NoSuchInterface,
            [
                ("interface", "test:wire/nothing@0.1.0".into()),
                ("offered", "test:wire/provider@0.1.0".into()),
            ],
        ),
    ] {
        let at = &server.addresses()[0];
        let connection = transport::connect(at, &Options::default()).await.unwrap();
        let transport::Connection::Bytes(io, _) = connection else {
            panic!("bytes");
        };
        let handler = std::sync::Arc::new(loop_wire::session::Nothing);
        let (session, driver) = Session::connect(io, hello, handler);
        tokio::spawn(driver);
        let failure = patient(session.ready()).await.expect_err("another contract");
        assert_eq!(failure.code, code, "{failure}");
        for (field, value) in fields {
            assert_eq!(failure.field(field), Some(value.as_str()), "{failure}");
        }
        assert_eq!(refusals.next().await.code, code);
    }
    assert!(server.sessions().is_empty());
}
