//! Shared memory, and peers that abuse it: played by hand, against a listener that others use at the same time.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use loop_wire::arena::{Arena, View};
use loop_wire::codec::{decode, encode, put_unsigned};
use loop_wire::frame::{FRAME, HEADER, Header, PREFACE, kind};
use loop_wire::session::{Meta, Nothing, Request, Session};
use loop_wire::transport::{self, Options, Sharing};
use loop_wire::{Address, Code, Failure, Hello, Limits, Server, serve};
use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tempfile::TempDir;

use crate::peer::{ECHO, GATE, Provider, Seen, hello};
use crate::rig::{patient, request, service};

const MIB: usize = 1 << 20;
const SIZE: usize = 4 * MIB;

/// A provider with one who uses it as is right, by shared memory.
struct Prey {
    server: Server,
    session: Session,
    seen: Arc<Seen>,
    folder: TempDir,
}

impl Prey {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Shm(folder.path().join("socket"));
        let (provider, _) = Provider::new();
        let seen = provider.0.clone();
        let listener = transport::listen(&address, &Options::default()).await.unwrap();
        let server = serve(listener, service(provider, Limits::default()).0);
        let connection = transport::connect(&address, &Options::default()).await.unwrap();
        let (session, _) = crate::rig::session(connection, Limits::default()).await;
        patient(session.ready()).await.unwrap();
        Prey {
            server,
            session,
            seen,
            folder,
        }
    }

    /// A peer by hand, once the handshake is over.
    fn raw(&self, shares: bool) -> Raw {
        let io = UnixStream::connect(self.folder.path().join("socket")).unwrap();
        io.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut raw = Raw { io, passed: vec![] };
        let mut ours = hello(false, Limits::default());
        if shares {
            ours.share();
        }
        raw.say(&[&PREFACE[..], &frame(kind::HELLO, 0, &encode(&ours))].concat());
        let (header, welcome) = raw.frame();
        assert_eq!(header.kind, kind::WELCOME);
        let theirs: Hello = decode(&welcome).unwrap();
        assert_eq!(theirs.transports, ["shm:"]);
        raw
    }

    /// The other session still works, and is the only one left.
    async fn unharmed(&self) {
        let root = Bytes::from(vec![5; MIB]);
        let echo = || async {
            let call = self.session.call(request(ECHO, root.clone()));
            patient(call).await.unwrap().root
        };
        assert!(echo().await == root);
        patient(async {
            while self.server.sessions().len() > 1 {
                echo().await;
            }
        })
        .await;
    }
}

struct Raw {
    io: UnixStream,
    passed: Vec<OwnedFd>,
}

fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    [&Header { length, kind, stream }.bytes()[..], payload].concat()
}

fn arena(size: u64) -> Vec<u8> {
    frame(kind::ARENA, 0, &encode(&size))
}

/// A frame that stands for one of kind `k` with `head` and what is in the arena.
fn placed(k: u8, stream: u32, offset: u64, length: u64, head: &[u8]) -> Vec<u8> {
    let mut payload = vec![k];
    put_unsigned(&mut payload, offset);
    put_unsigned(&mut payload, length);
    payload.extend_from_slice(head);
    frame(kind::PLACED, stream, &payload)
}

fn call(function: u32) -> [u8; 3] {
    [function as u8, 0, 0]
}

impl Raw {
    fn say(&mut self, bytes: &[u8]) {
        // whoever was cut off already hears the rest no more
        let _ = self.io.write_all(bytes);
    }

    fn pass(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds.len()))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        let sent = sendmsg(
            &self.io,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        );
        assert!(sent.is_err() || sent == Ok(bytes.len()));
    }

    fn exactly(&mut self, mut to: &mut [u8]) {
        while !to.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let got = recvmsg(&self.io, &mut [IoSliceMut::new(to)], &mut control, flags).unwrap();
            assert!(got.bytes > 0, "it ends");
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(fds) = message {
                    self.passed.extend(fds);
                }
            }
            to = &mut to[got.bytes..];
        }
    }

    fn frame(&mut self) -> (Header, Vec<u8>) {
        let mut header = [0; HEADER];
        self.exactly(&mut header);
        let header = Header::read(header);
        let mut payload = vec![0; header.length];
        self.exactly(&mut payload);
        (header, payload)
    }

    /// The next frame of that kind.
    fn until(&mut self, k: u8) -> (Header, Vec<u8>) {
        loop {
            let (header, payload) = self.frame();
            if header.kind == k {
                return (header, payload);
            }
        }
    }

    /// The reason that comes before the connection is closed.
    fn cut(&mut self) -> Failure {
        let (_, reason) = self.until(kind::GOAWAY);
        let why = decode(&reason).unwrap();
        // a reset that overtakes the end is one too
        let _ = self.io.read_to_end(&mut vec![]);
        why
    }
}

/// Descriptors and mappings of this process that are of a memfd of that name.
fn held(name: &str) -> usize {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap();
    let named = |target: std::path::PathBuf| target.to_string_lossy().contains(name);
    let open = fds
        .flatten()
        .filter(|fd| std::fs::read_link(fd.path()).is_ok_and(named))
        .count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    open + maps.lines().filter(|l| l.contains(name)).count()
}

const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::FUTURE_WRITE)
    .union(SealFlags::SEAL);

fn memory(name: &str, size: usize, seals: SealFlags) -> OwnedFd {
    let fd = memfd_create(name, MemfdFlags::ALLOW_SEALING | MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&fd, size as u64).unwrap();
    fallocate(&fd, FallocateFlags::empty(), 0, size as u64).unwrap();
    fcntl_add_seals(&fd, seals).unwrap();
    fd
}

fn read(view: &View, offset: usize, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    view.copy(offset, &mut bytes.spare_capacity_mut()[..length]);
    // SAFETY: just copied.
    unsafe { bytes.set_len(length) };
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_payloads_go_by_memory_both_ways_and_short_ones_do_not() {
    let prey = Prey::new().await;
    let mut raw = prey.raw(true);
    let (mut memory, fd) = Arena::new(SIZE).unwrap();
    raw.pass(&arena(SIZE as u64), &[fd.as_fd()]);
    let root: Vec<u8> = (0..100_000u32).map(|i| (i * 7) as u8).collect();
    memory.write(4096, &root);
    raw.say(&placed(kind::CALL, 1, 4096, root.len() as u64, &call(ECHO)));
    let (_, size) = raw.until(kind::ARENA);
    let size: u64 = decode(&size).unwrap();
    let view = View::open(&raw.passed.remove(0), size).unwrap();
    let (header, payload) = raw.frame();
    assert_eq!((header.kind, header.stream), (kind::PLACED, 1));
    assert_eq!(
        payload[..2],
        [kind::RESULT, 0],
        "the whole result in the first place"
    );
    assert!(read(&view, 0, root.len()) == root);
    assert_eq!(*payload.last().unwrap(), 0, "no times");
    // places are given back as they are read
    assert_eq!(raw.until(kind::FREED).1, encode(&1u32));
    raw.say(&frame(kind::FREED, 0, &encode(&1u32)));
    raw.say(&frame(kind::CALL, 3, &[&call(ECHO)[..], &[9; 1000]].concat()));
    let (header, payload) = raw.frame();
    assert_eq!((header.kind, header.stream), (kind::RESULT, 3));
    assert_eq!(payload.len(), 1001);
    drop(raw);
    prey.unharmed().await;
}

/// What comes before a payload is told beside the memory, and may be longer than one read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_with_all_that_can_be_said_goes_by_memory_too() {
    let prey = Prey::new().await;
    let root = Bytes::from(vec![3; 3 * MIB]);
    let call = || {
        prey.session.call(Request {
            meta: Meta {
                deadline: Some(Duration::from_secs(60)),
                trace: Some([7; 25]),
                identity: Some("i".repeat(256).into()),
                key: vec![1; 64],
                timed: true,
            },
            ..request(ECHO, root.clone())
        })
    };
    for answer in patient(futures::future::join_all((0..8).map(|_| call()))).await {
        assert!(answer.unwrap().root == root);
    }
    // and a byte at a time
    let mut raw = prey.raw(true);
    let (mut memory, fd) = Arena::new(MIB).unwrap();
    raw.pass(&arena(MIB as u64), &[fd.as_fd()]);
    memory.write(0, &[5; 1000]);
    let identity = encode("i".repeat(256).as_str());
    let head = [&[ECHO as u8, 0, 4][..], &identity].concat();
    for byte in placed(kind::CALL, 1, 0, 1000, &head) {
        raw.say(&[byte]);
    }
    let (_, payload) = raw.until(kind::RESULT);
    assert!(payload[1..] == [5; 1000]);
    drop(raw);
    prey.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shares_nothing_gets_everything_by_the_socket() {
    let prey = Prey::new().await;
    let mut raw = prey.raw(false);
    let root = [&call(ECHO)[..], &vec![9; FRAME / 2]].concat();
    raw.say(&frame(kind::CALL, 1, &root));
    let (header, payload) = raw.frame();
    assert_eq!((header.kind, payload.len()), (kind::RESULT, FRAME / 2 + 1));
    assert!(raw.passed.is_empty());
    drop(raw);
    prey.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_lies_about_memory_is_told_and_cut_off() {
    let prey = Prey::new().await;
    let name = "lies-about-memory";
    let good = || memory(name, 8192, SEALS);
    let with = |then: &[u8]| [&arena(8192)[..], then].concat();
    let on = |k: u8, offset: u64, length: u64| with(&placed(k, 1, offset, length, &call(ECHO)));
    let parts = |first: &[u8], length: u64| {
        let head = [&encode(&9000u64)[..], first].concat();
        with(
            &[
                placed(kind::CALL | kind::MORE, 1, 0, 8192, &head),
                placed(kind::CALL, 1, 0, length, b""),
            ]
            .concat(),
        )
    };
    for (what, fds, bytes) in [
        ("memory that was not passed", vec![], arena(8192)),
        ("smaller memory", vec![good()], arena(16384)),
        ("larger memory", vec![good()], arena(4096)),
        ("no memory at all", vec![good()], arena(0)),
        ("more memory than is taken", vec![good()], arena(u64::MAX)),
        (
            "an arena with more to say",
            vec![good()],
            frame(kind::ARENA, 0, &[1, 2]),
        ),
        (
            "an endless arena",
            vec![good()],
            frame(kind::ARENA, 0, &[0x80; 1000]),
        ),
        (
            "memory that can shrink",
            vec![memory(name, 8192, SEALS - SealFlags::SHRINK)],
            arena(8192),
        ),
        (
            "a socket",
            vec![UnixStream::pair().unwrap().0.into()],
            arena(8192),
        ),
        (
            "a place with much to say",
            vec![good()],
            with(&placed(kind::CALL, 1, 0, 1, &[0; 1100])),
        ),
        ("two descriptors", vec![good(), good()], arena(8192)),
        (
            "many descriptors",
            (0..100).map(|_| good()).collect(),
            arena(8192),
        ),
        ("a second arena", vec![good()], with(&arena(8192))),
        ("a place beyond the end", vec![good()], on(kind::CALL, 8192, 1)),
        ("a length beyond the end", vec![good()], on(kind::CALL, 1, 8192)),
        (
            "a sum that overflows",
            vec![good()],
            on(kind::CALL, u64::from(u32::MAX), u64::from(u32::MAX)),
        ),
        ("an offset of 64 bits", vec![good()], on(kind::CALL, 1 << 40, 1)),
        ("a placed ping", vec![good()], on(kind::PING, 0, 8)),
        ("a placed place", vec![good()], on(kind::PLACED, 0, 8)),
        (
            "a placed cancel with more",
            vec![good()],
            on(kind::CANCEL | kind::MORE, 0, 8),
        ),
        (
            "a place in no arena",
            vec![],
            placed(kind::CALL, 1, 0, 1, &call(ECHO)),
        ),
        (
            "a message longer than told",
            vec![good()],
            parts(&call(ECHO), 8192),
        ),
        ("a message shorter than told", vec![good()], parts(&call(ECHO), 1)),
        (
            "a size that is placed itself",
            vec![good()],
            with(&placed(kind::CALL | kind::MORE, 1, 0, 100, b"")),
        ),
        (
            "a call cut short",
            vec![good()],
            with(&placed(kind::CALL, 1, 0, 0, &[0])),
        ),
        ("an answer to nothing", vec![good()], on(kind::RESULT, 0, 8)),
        ("a chunk of nothing", vec![good()], on(kind::DATA, 0, 8192)),
        (
            "more given back than was used",
            vec![],
            frame(kind::FREED, 0, &encode(&1u32)),
        ),
        ("nothing given back", vec![], frame(kind::FREED, 0, &[])),
    ] {
        let mut raw = prey.raw(true);
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        match fds.is_empty() {
            true => raw.say(&bytes),
            false => raw.pass(&bytes, &fds),
        }
        let why = raw.cut();
        assert_eq!(why.code, Code::Protocol, "{what}: {why}");
        prey.unharmed().await;
    }
    assert_eq!(held(name), 0, "nothing of theirs is kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_peer_writes_after_sending_changes_nothing() {
    let prey = Prey::new().await;
    let mut raw = prey.raw(true);
    let (mut memory, fd) = Arena::new(MIB).unwrap();
    raw.pass(&arena(MIB as u64), &[fd.as_fd()]);
    memory.write(0, &vec![b'a'; 1000]);
    raw.say(&placed(kind::CALL, 1, 0, 1000, &call(GATE)));
    raw.until(kind::FREED);
    memory.write(0, &vec![b'b'; MIB]);
    prey.seen.gate.notify_one();
    let (_, payload) = raw.until(kind::RESULT);
    assert!(payload[1..] == vec![b'a'; 1000], "the copy is what counts");
    // however it is written to meanwhile, what is read is of that size and harms nobody
    for i in 0..200u32 {
        memory.write(0, &vec![i as u8; MIB]);
        let stream = 2 * i + 3;
        raw.say(&placed(kind::CALL, stream, 0, MIB as u64 / 32, &call(ECHO)));
        memory.write(0, &vec![!(i as u8); MIB]);
        let (_, payload) = raw.until(kind::RESULT);
        assert_eq!(payload.len(), 1 + MIB / 32);
    }
    drop(raw);
    prey.unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_peer_shared_goes_with_it() {
    let prey = Prey::new().await;
    let name = "gone-with-its-peer";
    for at in 0..4 {
        let mut raw = prey.raw(true);
        let fd = memory(name, MIB, SEALS);
        let head = [&encode(&(3 * MIB as u64))[..], &call(ECHO)].concat();
        let begun = placed(kind::CALL | kind::MORE, 1, 0, MIB as u64, &head);
        match at {
            // the descriptor without what it is for; the memory alone; a message begun; and cut within a frame
            0 => raw.pass(&[8], &[fd.as_fd()]),
            1 => raw.pass(&arena(MIB as u64), &[fd.as_fd()]),
            2 => raw.pass(&[arena(MIB as u64), begun].concat(), &[fd.as_fd()]),
            _ => raw.pass(&[&arena(MIB as u64)[..], &begun[..5]].concat(), &[fd.as_fd()]),
        }
        drop((raw, fd));
        prey.unharmed().await;
        patient(async {
            while held(name) > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_share_cost_a_descriptor_each_at_most() {
    let prey = Prey::new().await;
    let name = "one-for-each";
    let fd = memory(name, 4096, SEALS);
    let mut all: Vec<_> = (0..50).map(|_| prey.raw(true)).collect();
    for raw in &mut all {
        // what comes with the first bytes of a frame waits for the rest of it
        raw.pass(&arena(4096)[..4], &[fd.as_fd()]);
    }
    let mapped = |raw: &mut Raw| {
        raw.say(&arena(4096)[4..]);
        raw.say(&frame(kind::PING, 0, &[1; 8]));
        assert_eq!(raw.frame().0.kind, kind::PONG);
    };
    all.iter_mut().for_each(mapped);
    // each has its mapping, and no descriptor any longer; one is the test's own
    assert_eq!(held(name), 1 + 50);
    drop(all);
    prey.unharmed().await;
    patient(async {
        while held(name) > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_nothing_back_holds_up_long_answers_of_its_own_alone() {
    let prey = Prey::new().await;
    let mut raw = prey.raw(true);
    let (mut memory, fd) = Arena::new(8 * MIB).unwrap();
    raw.pass(&arena(8 * MIB as u64), &[fd.as_fd()]);
    memory.write(0, &vec![1; 8 * MIB]);
    raw.say(&placed(kind::CALL, 1, 0, 8 * MIB as u64 - 16, &call(ECHO)));
    let mut places = 0;
    while places < 4 {
        places += usize::from(raw.frame().0.kind == kind::PLACED);
    }
    // all places are taken; what is short goes on
    for stream in [3, 5, 7] {
        raw.say(&frame(kind::CALL, stream, &[&call(ECHO)[..], b"short"].concat()));
        let (header, payload) = raw.until(kind::RESULT);
        assert_eq!(header.stream, stream);
        assert_eq!(&payload[1..], b"short");
    }
    // one at a time goes on one at a time
    raw.say(&frame(kind::FREED, 0, &encode(&1u32)));
    let (header, payload) = raw.until(kind::PLACED);
    assert_eq!(header.stream, 1);
    assert_eq!(payload[0], kind::RESULT | kind::MORE);
    assert_eq!(payload[1], 0, "the place that was given back");
    drop(raw);
    prey.unharmed().await;
}

/// What a process of [`without_descriptors_everything_goes_by_the_socket`] does.
#[tokio::test]
#[ignore = "another test starts it"]
async fn child_without_descriptors() {
    let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
    let provider = Arc::new(Provider::new().0);
    let (_served, driver) = Session::accept(Sharing(theirs), hello(true, Limits::default()), provider);
    tokio::spawn(driver);
    let (session, driver) =
        Session::connect(Sharing(ours), hello(false, Limits::default()), Arc::new(Nothing));
    tokio::spawn(driver);
    patient(session.ready()).await.unwrap();
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = Some(3);
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    assert!(std::fs::File::open("/dev/null").is_err());
    let root = Bytes::from(vec![7; MIB]);
    let answer = patient(session.call(request(ECHO, root.clone()))).await.unwrap();
    assert!(answer.root == root);
}

#[tokio::test]
async fn without_descriptors_everything_goes_by_the_socket() {
    let child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "memory::child_without_descriptors"])
        .stdin(Stdio::null())
        .output();
    let output = patient(child).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
