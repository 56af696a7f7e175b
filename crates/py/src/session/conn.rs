//! A session on an event loop: its selector watches the connection, framing and values are done here.
//!
//! No second thread and no task of its own: what one read brings is dealt with at once, and all that was answered
//! meanwhile is written in one go. Calls of plain functions never leave this crate; coroutines become tasks.

mod time;

use std::io::{Error as IoError, ErrorKind, IoSlice, Result as IoResult};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use loop_remote::Ends;
use loop_wire::frame::Out;
use loop_wire::session::{Core, Eager, Event, Inbox};
use loop_wire::transport::{Peer, Token};
use loop_wire::{Code, Failure, Hello, admit};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use pyo3::{PyTraverseError, PyVisit};

use super::contract::{Contract, Member};
use super::failures;
use super::futures::{settle, settled, take};
use super::links::Links;
use super::pumps::{Later, Queue};
use super::values;
use crate::hub::{Hub, HubInner, lock};

/// Time for the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Turns of reading before the loop's other work gets its turn.
const TURNS: usize = 16;
/// Bytes that the peer leaves unread before it is listened to no longer.
const UNREAD: usize = 64 << 20;

/// A call that waits for its answer.
pub struct Waiter {
    pub future: Py<PyAny>,
    pub member: Arc<Member>,
    pub ends: Ends,
    /// Arguments that lend handles: over streams of their own, a DROP might come before the call that needs it.
    pub lent: Option<Py<PyTuple>>,
}

/// What is read and written.
pub struct State {
    pub core: Core<Waiter>,
    inbox: Inbox,
    writing: Out,
    eager: Eager,
    /// It is looked for more in the loop's next turn.
    looking: bool,
    /// For reading and for writing, the same of a socket; none once the connection is closed.
    fds: Option<(OwnedFd, Option<OwnedFd>)>,
    watching_writes: bool,
    heard: Instant,
    pinged: bool,
    /// When the next tick is due, and its handle.
    tick: Option<(Instant, Py<PyAny>)>,
    /// What is linked at the peer, by number, until it says so.
    pub(super) linking: Vec<(u32, Py<PyAny>)>,
    pub(super) reloading: Vec<(u32, Py<PyAny>)>,
    pub(super) leaving: bool,
}

impl State {
    /// Something was read.
    fn has_come(&mut self) {
        let now = Instant::now();
        self.eager.read(now);
        // the time of the handshake is not prolonged byte by byte
        if self.core.is_open() {
            self.heard = now;
            self.pinged = false;
        }
    }
}

/// A session with one peer.
#[pyclass(frozen, weakref, module = "loop_kit._core")]
pub struct Wire {
    pub state: Mutex<State>,
    pub links: Links,
    pub event_loop: Py<PyAny>,
    pub hub: Arc<HubInner>,
    pub queue: Arc<Queue>,
    ours: Hello,
    theirs: OnceLock<Hello>,
    token: Vec<u8>,
    /// Who the transport says is there.
    peer: Peer,
    /// What is exported here, and what of the peer is called.
    pub exports: Option<Py<Contract>>,
    pub(super) imports: Option<Py<Contract>>,
    /// The numbers of the imported functions at the peer.
    pub(super) numbers: OnceLock<Vec<u32>>,
    events: Mutex<Option<Py<PyAny>>>,
    pub(super) over: OnceLock<Failure>,
}

impl Wire {
    fn fds(&self) -> Option<(RawFd, RawFd)> {
        let state = lock(&self.state);
        let (read, write) = state.fds.as_ref()?;
        Some((read.as_raw_fd(), write.as_ref().unwrap_or(read).as_raw_fd()))
    }

    /// Reads once; false where nothing is there, None at the end.
    fn read(state: &mut State) -> IoResult<Option<bool>> {
        let Some((fd, _)) = &state.fds else {
            return Ok(Some(false));
        };
        #[cfg(target_os = "linux")]
        if state.core.may_be_passed() {
            let room = state.inbox.space().len();
            return match loop_wire::passing::read(fd, &mut state.inbox) {
                Ok(0) => Ok(None),
                Ok(n) => {
                    state.has_come();
                    Ok(Some(n == room))
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    Ok(Some(false))
                }
                Err(e) => Err(e),
            };
        }
        let fd = fd.as_raw_fd();
        let space: &mut [MaybeUninit<u8>] = state.inbox.space();
        let room = space.len();
        // SAFETY: the space is ours for as long as the call takes, and of that size.
        let n = unsafe { libc::read(fd, space.as_mut_ptr().cast(), room) };
        match n {
            0 => Ok(None),
            1.. => {
                // SAFETY: the kernel has written that many bytes.
                unsafe { state.inbox.filled(n as usize) };
                state.has_come();
                Ok(Some(n as usize == room))
            }
            _ => match IoError::last_os_error() {
                e if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(Some(false)),
                e => Err(e),
            },
        }
    }

    /// Writes some of what waits.
    fn write_once(fd: &OwnedFd, writing: &mut Out) -> IoResult<()> {
        let mut slices = [IoSlice::new(&[]); 16];
        let n = writing.slices(&mut slices);
        // SAFETY: an IoSlice is laid out as an iovec, and all of them live until the call is over.
        let n = unsafe { libc::writev(fd.as_raw_fd(), slices.as_ptr().cast(), n as i32) };
        if n < 0 {
            return Err(IoError::last_os_error());
        }
        writing.advance(n as usize);
        Ok(())
    }

    /// Writes what there is; true where all of it is written.
    fn write(state: &mut State) -> IoResult<bool> {
        loop {
            if state.writing.is_empty() {
                state.core.take(&mut state.writing);
            }
            let Some((read, write)) = state.fds.as_ref().filter(|_| !state.writing.is_empty()) else {
                return Ok(true);
            };
            let fd = write.as_ref().unwrap_or(read);
            #[cfg(target_os = "linux")]
            let written = match state.writing.descriptor() {
                Some(_) => loop_wire::passing::write(fd, &mut state.writing),
                None => Self::write_once(fd, &mut state.writing),
            };
            #[cfg(not(target_os = "linux"))]
            let written = Self::write_once(fd, &mut state.writing);
            match written {
                Ok(()) => state.eager.wrote(),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e),
            }
        }
    }

    /// Writes, and watches for room where there is none.
    pub(super) fn flush_now(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (me, py) = (slf.get(), slf.py());
        let written = {
            let mut state = lock(&me.state);
            Self::write(&mut state)
        };
        let done = match written {
            Ok(done) => done,
            Err(e) => return Self::end(slf, Failure::gone(format!("the connection broke: {e}"), false)),
        };
        let (changed, over) = {
            let mut state = lock(&me.state);
            let changed = state.watching_writes == done;
            state.watching_writes = !done;
            (changed, done && state.leaving && state.core.busy() == 0)
        };
        if let (true, Some((_, fd))) = (changed, me.fds()) {
            if done {
                me.event_loop
                    .call_method1(py, intern!(py, "remove_writer"), (fd,))?;
            } else {
                let writable = slf.getattr(intern!(py, "_flush"))?;
                me.event_loop
                    .call_method1(py, intern!(py, "add_writer"), (fd, writable))?;
            }
        }
        if over {
            Self::end(slf, Failure::gone("the session was left", true))?;
        }
        Ok(())
    }

    fn event(slf: &Bound<'_, Self>, event: Event<Waiter>) -> PyResult<()> {
        let (me, py) = (slf.get(), slf.py());
        match event {
            Event::Called(called) => super::serve::called(slf, called),
            Event::Answered { user, root, .. } => values::answered(slf, user, &root),
            Event::Failed { user, failure } => settle(py, &user.future, Err(failures::raised(py, &failure))),
            Event::Cancelled { stream } => me.links.cancel(py, stream),
            Event::Hello(theirs) => Self::greet(slf, theirs),
            Event::Welcome(theirs) => {
                if let Err(failure) = me.ours.satisfied_by(&theirs) {
                    lock(&me.state).core.go_away(&failure);
                    return Self::end(slf, failure);
                }
                Self::ready(slf, theirs)
            }
            Event::Link(link) => super::serve::bind(slf, &link),
            Event::Unlink(number) => {
                me.links.unbind(number);
                me.tell(py, "unbind", (number,))
            }
            Event::Dropped(link, _, handle) => {
                me.links.dropped(link, &handle);
                Ok(())
            }
            Event::Linked(number, failure) => {
                let asked = take(&mut lock(&me.state).linking, number);
                settled(py, asked, failure)
            }
            Event::Reloaded(number, failure) => {
                let asked = take(&mut lock(&me.state).reloading, number);
                settled(py, asked, failure)
            }
            Event::Reload(number) => me.tell(py, "reload", (number,)),
            Event::GoingAway(failure) => {
                lock(&me.state).leaving = true;
                me.tell(py, "leaving", (failures::raised(py, &failure).into_value(py),))
            }
        }
    }

    /// Calls a method of the object that is told what happens.
    pub fn tell<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        args: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<()> {
        let events = lock(&self.events).as_ref().map(|e| e.clone_ref(py));
        match events {
            Some(events) => events.bind(py).call_method1(method, args).map(drop),
            None => Ok(()),
        }
    }

    /// The same for its answer.
    pub fn ask<'py>(
        &self,
        py: Python<'py>,
        method: &str,
        args: impl pyo3::call::PyCallArgs<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let events = lock(&self.events).as_ref().map(|e| e.clone_ref(py));
        match events {
            Some(events) => events.bind(py).call_method1(method, args),
            None => Err(PyRuntimeError::new_err("the session has ended")),
        }
    }

    /// The number of a resource at the peer.
    pub fn imported(&self, interface: &str, name: &str) -> Option<u32> {
        let theirs = self.theirs.get()?;
        let wanted = self.ours.imports.iter().find(|i| i.name == interface)?;
        let mut all = theirs
            .exports
            .iter()
            .flat_map(|i| i.resources.iter().map(move |r| (i, r)));
        all.position(|(i, r)| r == name && loop_wire::serves(&i.name, &wanted.name))
            .map(|n| n as u32)
    }

    /// Who the peer says it is.
    pub fn their_identity(&self) -> Option<String> {
        let theirs = self.theirs.get()?;
        (!theirs.identity.is_empty()).then(|| theirs.identity.clone())
    }

    pub fn let_go_later(&self, link: u32, resource: u32, handle: Vec<u8>) {
        self.queue.push(Later::LetGo(link, resource, handle));
    }

    /// Gives a call up.
    pub fn cancel(slf: &Bound<'_, Self>, stream: u32) {
        let user = lock(&slf.get().state).core.cancel(stream);
        drop(user);
        slf.get().queue.schedule(slf.py());
    }

    fn greet(slf: &Bound<'_, Self>, theirs: Hello) -> PyResult<()> {
        let me = slf.get();
        let token = (!me.token.is_empty()).then(|| Token(me.token.clone()));
        let fits = admit(token.as_ref(), &me.peer, &theirs)
            .and_then(|()| theirs.satisfied_by(&me.ours))
            .and_then(|()| me.ours.satisfied_by(&theirs));
        match fits {
            Ok(()) => {
                lock(&me.state).core.welcome(&me.ours, &theirs);
                Self::ready(slf, theirs)
            }
            Err(failure) => {
                lock(&me.state).core.refuse(&failure);
                Self::end(slf, failure)
            }
        }
    }

    /// The handshake is over.
    fn ready(slf: &Bound<'_, Self>, theirs: Hello) -> PyResult<()> {
        let (me, py) = (slf.get(), slf.py());
        let mut numbers = vec![];
        for interface in &me.ours.imports {
            // it was found when the handshake was checked
            let Ok((first, offered)) = theirs.offers(interface) else {
                continue;
            };
            for name in &interface.functions {
                let at = offered.position(name);
                numbers.push(at.map_or(u32::MAX, |at| first + at as u32));
            }
        }
        let _ = me.numbers.set(numbers);
        let said = (
            &theirs.software,
            &theirs.identity,
            &theirs.instance,
            theirs.generation,
        );
        let told = me.tell(py, "ready", said);
        let _ = me.theirs.set(theirs);
        told
    }

    /// Ends the session: whoever waits is told why.
    pub(super) fn end(slf: &Bound<'_, Self>, why: Failure) -> PyResult<()> {
        let (me, py) = (slf.get(), slf.py());
        if me.over.set(why.clone()).is_err() {
            return Ok(());
        }
        let (waiting, fds, asked, tick) = {
            let mut state = lock(&me.state);
            // a last word, such as why the peer is cut off, if it goes out at once
            let _ = Self::write(&mut state);
            let mut asked = std::mem::take(&mut state.linking);
            asked.append(&mut state.reloading);
            (state.core.abandon(), state.fds.take(), asked, state.tick.take())
        };
        if let Some((read, write)) = fds {
            let (r, w) = (read.as_raw_fd(), write.as_ref().unwrap_or(&read).as_raw_fd());
            let closed = me
                .event_loop
                .call_method0(py, intern!(py, "is_closed"))?
                .is_truthy(py)?;
            if !closed {
                me.event_loop
                    .call_method1(py, intern!(py, "remove_reader"), (r,))?;
                me.event_loop
                    .call_method1(py, intern!(py, "remove_writer"), (w,))?;
            }
        }
        if let Some((_, tick)) = tick {
            tick.call_method0(py, intern!(py, "cancel"))?;
        }
        for (waiter, sent) in waiting {
            let failure = Failure::gone(why.message.clone(), !sent);
            settle(py, &waiter.future, Err(failures::raised(py, &failure)))?;
        }
        for (_, future) in asked {
            settle(py, &future, Err(failures::raised(py, &why)))?;
        }
        me.links.clear(py)?;
        me.queue.close();
        let told = me.tell(py, "closed", (failures::raised(py, &why).into_value(py),));
        lock(&me.events).take();
        told
    }
}

#[pymethods]
impl Wire {
    /// `read` and `write` are descriptors, owned from here on; the same number for a socket. `imports` asks the peer
    /// to offer those interfaces. `certificate`: the names in the peer's, if it showed one. `events` is told `ready(software, identity, instance, generation)`,
    /// `closed(error)`, `leaving(error)`, `bind(name, grant, config)` for its answer, `unbind(number)`,
    /// `reload(number)`.
    #[new]
    #[pyo3(signature = (event_loop, hub, read, write, *, initiator, events, exports = None, imports = None, identity = "", instance = "", generation = 0, token = None, idle = None, certificate = None, shared = false))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        event_loop: Py<PyAny>,
        hub: &Hub,
        read: RawFd,
        write: RawFd,
        initiator: bool,
        events: Py<PyAny>,
        exports: Option<Py<Contract>>,
        imports: Option<Py<Contract>>,
        identity: &str,
        instance: &str,
        generation: u64,
        token: Option<Vec<u8>>,
        idle: Option<f64>,
        certificate: Option<Vec<String>>,
        shared: bool,
    ) -> PyResult<Self> {
        let offered = |c: &Option<Py<Contract>>| c.as_ref().map_or_else(Vec::new, |c| c.get().offered());
        let mut ours = Hello {
            identity: identity.into(),
            instance: instance.into(),
            generation,
            exports: offered(&exports),
            imports: offered(&imports),
            ..Hello::default()
        };
        if shared && cfg!(target_os = "linux") {
            ours.share();
        }
        if let Some(idle) = idle {
            ours.limits.idle = (idle * 1000.0) as u32;
        }
        let token = token.unwrap_or_default();
        if initiator {
            ours.token.clone_from(&token);
        }
        for fd in [read, write] {
            // SAFETY: only flags of a descriptor are read and set.
            let set = unsafe {
                libc::fcntl(
                    fd,
                    libc::F_SETFL,
                    libc::fcntl(fd, libc::F_GETFL) | libc::O_NONBLOCK,
                )
            };
            if set < 0 {
                return Err(IoError::last_os_error().into());
            }
        }
        // SAFETY: the caller gives the descriptors away.
        let own = |fd| unsafe { OwnedFd::from_raw_fd(fd) };
        let state = State {
            core: match initiator {
                true => Core::initiator(&ours),
                false => Core::acceptor(ours.limits.clone()),
            },
            inbox: Inbox::new(ours.limits.message, !initiator),
            writing: Out::default(),
            eager: Eager::default(),
            looking: false,
            fds: Some((own(read), (write != read).then(|| own(write)))),
            watching_writes: false,
            heard: Instant::now(),
            pinged: false,
            tick: None,
            linking: vec![],
            reloading: vec![],
            leaving: false,
        };
        Ok(Wire {
            state: Mutex::new(state),
            links: Links::default(),
            queue: Queue::new(event_loop.clone_ref(py)),
            event_loop,
            hub: hub.inner.clone(),
            ours,
            theirs: OnceLock::new(),
            token: if initiator { vec![] } else { token },
            peer: Peer {
                certificate,
                ..Peer::default()
            },
            exports,
            imports,
            numbers: OnceLock::new(),
            events: Mutex::new(Some(events)),
            over: OnceLock::new(),
        })
    }

    /// Begins to read.
    fn start(slf: &Bound<'_, Self>) -> PyResult<()> {
        let me = slf.get();
        me.queue
            .set(Some(slf.getattr(intern!(slf.py(), "_flush"))?.unbind()));
        if let Some((read, _)) = me.fds() {
            let readable = slf.getattr(intern!(slf.py(), "_readable"))?;
            me.event_loop
                .call_method1(slf.py(), intern!(slf.py(), "add_reader"), (read, readable))?;
        }
        Self::flush_now(slf)?;
        Self::plan_tick(slf)
    }

    fn _readable(slf: &Bound<'_, Self>) -> PyResult<()> {
        let me = slf.get();
        for _ in 0..TURNS {
            let mut events = vec![];
            let (more, failed) = {
                let mut state = lock(&me.state);
                let state = &mut *state;
                if state.writing.len() > UNREAD {
                    break;
                }
                let read = Self::read(state);
                let failed = loop {
                    match state.core.event(&mut state.inbox) {
                        Ok(Some(event)) => events.push(event),
                        Ok(None) => break None,
                        Err(failure) => break Some(failure),
                    }
                };
                match read {
                    Ok(Some(more)) => (more, failed),
                    Ok(None) => (
                        false,
                        failed.or_else(|| Some(Failure::gone("the peer closed the connection", false))),
                    ),
                    Err(e) => (
                        false,
                        Some(Failure::gone(format!("the connection broke: {e}"), false)),
                    ),
                }
            };
            for event in events {
                Self::event(slf, event)?;
            }
            if let Some(failure) = failed {
                if failure.code == Code::Protocol {
                    lock(&me.state).core.go_away(&failure);
                }
                return Self::end(slf, failure);
            }
            if !more {
                break;
            }
        }
        super::jobs::start(slf)?;
        values::run(me);
        Self::flush_now(slf)?;
        Self::look_again(slf)?;
        Self::plan_tick(slf)
    }

    fn _look(slf: &Bound<'_, Self>) -> PyResult<()> {
        lock(&slf.get().state).looking = false;
        // who is awaited may need this core
        slf.py().detach(std::thread::yield_now);
        Self::_readable(slf)
    }

    fn _flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        let me = slf.get();
        values::run(me);
        Self::flush_now(slf)?;
        Self::look_again(slf)?;
        Self::plan_tick(slf)
    }

    fn _tick(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::on_time(slf)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(events) = self.events.try_lock() {
            events.iter().try_for_each(|e| visit.call(e))?;
        }
        self.links.traverse(&visit)
    }
}
