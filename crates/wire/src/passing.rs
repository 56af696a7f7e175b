//! Unix sockets that pass descriptors along with the bytes.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::frame::Out;
use crate::session::Inbox;

/// Reads once, with the descriptors that come along; 0 at the end.
///
/// Errors as reading does, with `WouldBlock` where nothing is there.
pub fn read(socket: impl AsFd, inbox: &mut Inbox) -> io::Result<usize> {
    receive(socket, inbox).map(|(n, _)| n)
}

/// The same, and whether all was read that is there.
fn receive(socket: impl AsFd, inbox: &mut Inbox) -> io::Result<(usize, bool)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let to = inbox.space();
    let room = to.len();
    // SAFETY: the kernel alone looks at it, and only writes.
    let to = unsafe { std::slice::from_raw_parts_mut(to.as_mut_ptr().cast::<u8>(), room) };
    let got = recvmsg(
        socket,
        &mut [IoSliceMut::new(to)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut short = got.bytes < room;
    for message in control.drain() {
        short = false; // reading ends where a descriptor comes along
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptors.for_each(|d| inbox.passed(d));
        }
    }
    if got.flags.contains(ReturnFlags::CTRUNC) {
        inbox.flooded();
    }
    // SAFETY: the kernel has written that many bytes.
    unsafe { inbox.filled(got.bytes) };
    Ok((got.bytes, short))
}

/// Writes some of what waits, with the descriptor that goes along.
///
/// Errors as writing does, with `WouldBlock` where there is no room.
pub fn write(socket: impl AsFd, out: &mut Out) -> io::Result<()> {
    let mut slices = [IoSlice::new(&[]); 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptor = out.descriptor().map(|d| [d.as_fd()]);
    if let Some(descriptor) = &descriptor {
        control.push(SendAncillaryMessage::ScmRights(descriptor));
    }
    let n = out.slices(&mut slices);
    let n = sendmsg(socket, &slices[..n], &mut control, SendFlags::NOSIGNAL)?;
    if n == 0 {
        return Err(io::ErrorKind::WriteZero.into());
    }
    out.advance(n);
    Ok(())
}

pub(crate) fn poll_read(
    socket: &UnixStream,
    cx: &mut Context<'_>,
    inbox: &mut Inbox,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        let mut got = None;
        let read = socket.try_io(Interest::READABLE, || {
            let (n, short) = receive(socket, inbox)?;
            got = Some(n);
            match short && n > 0 {
                // nothing is left to be read, which tokio is told so
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => Ok(()),
            }
        });
        match (got, read) {
            (Some(n), _) => return Poll::Ready(Ok(n)),
            (None, Err(e)) if e.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(e)),
            _ => {}
        }
    }
}

pub(crate) fn poll_write(socket: &UnixStream, cx: &mut Context<'_>, out: &mut Out) -> Poll<io::Result<()>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        match socket.try_io(Interest::WRITABLE, || write(socket, out)) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            written => return Poll::Ready(written),
        }
    }
}
