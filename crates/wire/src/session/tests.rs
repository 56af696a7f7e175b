//! Two cores without a connection between them.

use std::time::Instant;

use bytes::Bytes;

use super::core::{Core, Event, Request};
use super::inbox::Inbox;
use crate::failure::Failure;
use crate::frame::Out;
use crate::hello::Hello;

struct Side {
    core: Core<u32>,
    inbox: Inbox,
}

impl Side {
    fn call(&mut self, size: usize) -> u32 {
        let request = Request {
            root: Bytes::from(vec![7; size]),
            ..Request::default()
        };
        self.core.call(Instant::now(), request, size as u32)
    }
}

/// A session that has begun.
fn pair() -> (Side, Side) {
    let hello = Hello::default();
    let mut a = Side {
        core: Core::initiator(&hello),
        inbox: Inbox::new(hello.limits.message, false),
    };
    let mut b = Side {
        core: Core::acceptor(hello.limits.clone()),
        inbox: Inbox::new(hello.limits.message, true),
    };
    assert!(matches!(carry(&mut a, &mut b)[..], [Ok(Event::Hello(_))]));
    b.core.welcome(&hello, &hello);
    assert!(matches!(carry(&mut b, &mut a)[..], [Ok(Event::Welcome(_))]));
    (a, b)
}

/// Moves what `from` would write at once; false where that is nothing.
fn step(from: &mut Side, to: &mut Side) -> bool {
    let mut out = Out::default();
    from.core.take(&mut out);
    let any = !out.is_empty();
    while !out.is_empty() {
        let mut slices = [std::io::IoSlice::new(&[]); 8];
        let n = out.slices(&mut slices);
        let bytes: Vec<u8> = slices[..n].iter().flat_map(|s| s.iter().copied()).collect();
        out.advance(bytes.len());
        to.inbox.feed(&bytes);
    }
    any
}

/// Moves all that `from` has to say; what it means to `to`.
fn carry(from: &mut Side, to: &mut Side) -> Vec<Result<Event<u32>, Failure>> {
    let mut events = vec![];
    while step(from, to) {
        loop {
            match to.core.event(&mut to.inbox) {
                Ok(Some(event)) => events.push(Ok(event)),
                Ok(None) => break,
                Err(failure) => {
                    events.push(Err(failure));
                    return events;
                }
            }
        }
    }
    events
}

fn called(events: &[Result<Event<u32>, Failure>]) -> Vec<(u32, usize)> {
    events
        .iter()
        .map(|e| match e {
            Ok(Event::Called(c)) => (c.stream, c.root.len()),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_short_call_overtakes_a_long_one_that_has_begun() {
    let (mut a, mut b) = pair();
    let long = a.call(3 << 20);
    step(&mut a, &mut b);
    assert!(b.core.event(&mut b.inbox).is_ok_and(|e| e.is_none()));
    let short = a.call(2);
    assert_eq!(called(&carry(&mut a, &mut b)), [(short, 2), (long, 3 << 20)]);
}

#[test]
fn a_long_call_that_is_cancelled_before_it_began_is_never_heard_of() {
    let (mut a, mut b) = pair();
    let long = a.call(3 << 20);
    assert_eq!(a.core.cancel(long), Some(3 << 20));
    assert_eq!((a.core.busy(), a.core.calling()), (0, 0));
    let short = a.call(2);
    assert_eq!(called(&carry(&mut a, &mut b)), [(short, 2)]);
}

#[test]
fn a_call_may_be_cancelled_while_its_parts_are_on_their_way() {
    let (mut a, mut b) = pair();
    let long = a.call(3 << 20);
    step(&mut a, &mut b);
    a.core.cancel(long);
    let events = carry(&mut a, &mut b);
    assert!(events.iter().all(Result::is_ok), "{events:?}");
}

/// A call of which `b` has answered a stream of long chunks, as many as it likes, and closed it.
fn long_chunks(a: &mut Side, b: &mut Side, chunks: usize) -> u32 {
    let request = Request {
        streaming: true,
        ..Request::default()
    };
    let call = a.core.call(Instant::now(), request, 0);
    assert_eq!(called(&carry(a, b)), [(call, 0)]);
    b.core.respond(call, Ok(Bytes::from_static(&[0])), None, true);
    for _ in 0..chunks {
        b.core.write(call, &[0], Bytes::from(vec![7; 300 << 10]));
    }
    b.core.write(call, &[0], Bytes::from_static(&[0]));
    b.core.close(call);
    call
}

#[test]
fn the_rest_of_a_message_may_come_when_its_reader_has_left() {
    let (mut a, mut b) = pair();
    let call = long_chunks(&mut a, &mut b, 8);
    let events = carry(&mut b, &mut a);
    assert!(matches!(events[..], [Ok(Event::Answered { .. })]), "{events:?}");
    a.core.stop(call, &[0]);
    for _ in 0..20 {
        let mut events = carry(&mut a, &mut b);
        events.append(&mut carry(&mut b, &mut a));
        assert!(events.is_empty(), "{events:?}");
    }
    assert_eq!(b.core.busy(), 0);
}

#[test]
fn a_slow_reader_holds_a_writer_that_has_closed() {
    let (mut a, mut b) = pair();
    let call = long_chunks(&mut a, &mut b, 8);
    let events = carry(&mut b, &mut a);
    assert!(matches!(events[..], [Ok(Event::Answered { .. })]), "{events:?}");
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut read = 0;
    loop {
        match a.core.poll_read(call, &[0], &mut cx) {
            std::task::Poll::Ready(chunk) => match chunk.unwrap() {
                end if *end == [0] => break,
                chunk => read += chunk.len(),
            },
            std::task::Poll::Pending => {
                let mut events = carry(&mut a, &mut b);
                events.append(&mut carry(&mut b, &mut a));
                assert!(events.is_empty(), "{events:?}");
            }
        }
    }
    assert_eq!((read, b.core.busy()), (8 * (300 << 10), 0));
}

/// Found by fuzzing: only what came in parts was measured.
#[test]
fn a_message_in_one_frame_is_held_to_its_limit_too() {
    let (mut a, mut b) = pair();
    let call = a.call(2);
    assert_eq!(called(&carry(&mut a, &mut b)), [(call, 2)]);
    a.inbox = Inbox::new(1 << 16, false);
    b.core
        .respond(call, Ok(Bytes::from(vec![1; 100 << 10])), None, false);
    let events = carry(&mut b, &mut a);
    assert!(
        matches!(&events[..], [Ok(Event::Failed { user: 2, failure })] if failure.code == crate::Code::Overloaded),
        "{events:?}"
    );
}

#[test]
fn the_numbers_of_streams_go_round() {
    let (mut a, mut b) = pair();
    let kept = a.call(1);
    assert_eq!(called(&carry(&mut a, &mut b)), [(1, 1)]);
    a.core.skip_to(u32::MAX - 2, &mut b.core);
    let more: Vec<_> = (0..4).map(|_| a.call(1)).collect();
    assert_eq!(kept, 1);
    assert_eq!(more, [u32::MAX - 2, u32::MAX, 3, 5], "1 is still in use");
    assert_eq!(called(&carry(&mut a, &mut b)).len(), 4);
    b.core.respond(5, Ok(Bytes::new()), None, false);
    assert!(matches!(
        carry(&mut b, &mut a)[..],
        [Ok(Event::Answered { stream: 5, .. })]
    ));
}
