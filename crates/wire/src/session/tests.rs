//! Two cores without a connection between them.

use std::task::{Context, Poll, Waker};
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

/// Found by soaking: those that were called in the same turn were heard of before a long one with a lower number.
#[test]
fn calls_are_heard_of_in_the_order_of_their_numbers() {
    let (mut a, mut b) = pair();
    let most = Hello::default().limits.connection as usize;
    let sizes = [3 << 20, 2, 1 << 20, 5, most, 7];
    let calls = sizes.map(|size| (a.call(size), size));
    let mut heard = vec![];
    while heard.len() < calls.len() {
        heard.append(&mut called(&carry(&mut a, &mut b)));
        let events = carry(&mut b, &mut a);
        assert!(events.is_empty(), "{events:?}");
    }
    heard.sort_unstable();
    assert_eq!(heard, calls);
}

/// Found by soaking: streams of a call that waited to be sent were written before it.
#[test]
fn nothing_is_said_of_a_call_before_the_call() {
    let (mut a, mut b) = pair();
    let mut cx = Context::from_waker(Waker::noop());
    let long = a.call(3 << 20);
    let held: Vec<_> = (0..2).map(|_| a.call(2)).collect();
    for call in [long, held[0], held[1]] {
        assert!(a.core.poll_write(call, &[0], &mut cx).is_pending());
        a.core.lose(call, &[1], &Failure::protocol("lost"));
    }
    a.core.cancel(held[1]);
    let mut heard = called(&carry(&mut a, &mut b));
    heard.sort_unstable();
    assert_eq!(heard, [(long, 3 << 20), (held[0], 2)]);
    for call in [long, held[0]] {
        assert!(a.core.poll_write(call, &[0], &mut cx).is_ready());
        assert!(matches!(b.core.poll_read(call, &[1], &mut cx), Poll::Ready(Err(f)) if f.message == "lost"));
    }
}

#[test]
fn a_long_call_that_is_given_up_lets_go_of_those_that_it_held() {
    let (mut a, mut b) = pair();
    let long = a.call(3 << 20);
    let short = a.call(2);
    a.core.cancel(long);
    assert_eq!(called(&carry(&mut a, &mut b)), [(short, 2)]);
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
    let mut cx = Context::from_waker(Waker::noop());
    let mut read = 0;
    loop {
        match a.core.poll_read(call, &[0], &mut cx) {
            Poll::Ready(chunk) => match chunk.unwrap() {
                end if *end == [0] => break,
                chunk => read += chunk.len(),
            },
            Poll::Pending => {
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

/// A call with an answer, of which `b` writes the stream at `[0]`.
fn streaming(a: &mut Side, b: &mut Side) -> u32 {
    let request = Request {
        streaming: true,
        ..Request::default()
    };
    let call = a.core.call(Instant::now(), request, 0);
    assert_eq!(called(&carry(a, b)), [(call, 0)]);
    b.core.respond(call, Ok(Bytes::from_static(&[0])), None, true);
    assert!(matches!(carry(b, a)[..], [Ok(Event::Answered { .. })]));
    call
}

/// Moves everything that either side has to say, which means nothing to those above.
fn quiet(a: &mut Side, b: &mut Side) {
    loop {
        let mut events = carry(a, b);
        events.append(&mut carry(b, a));
        assert!(events.is_empty(), "{events:?}");
        if a.core.is_drained() && b.core.is_drained() {
            return;
        }
    }
}

fn paths(items: std::ops::Range<u32>) -> Vec<Box<[u32]>> {
    items.map(|i| [0, i].into()).collect()
}

/// Whether `b` may announce them in its stream.
fn opens(b: &mut Side, call: u32, paths: &[Box<[u32]>]) -> Poll<Result<bool, Failure>> {
    let mut cx = Context::from_waker(Waker::noop());
    b.core.poll_open(call, &[0], paths, &mut cx)
}

/// Announces futures in the stream.
fn announce(b: &mut Side, call: u32, items: std::ops::Range<u32>) {
    let paths = paths(items);
    assert!(matches!(opens(b, call, &paths), Poll::Ready(Ok(true))));
    let mut chunk = vec![];
    crate::codec::put_unsigned(&mut chunk, paths.len() as u64);
    chunk.resize(chunk.len() + paths.len(), 0);
    b.core.write(call, &[0], chunk.into());
}

/// Writes the values of futures.
fn settle(b: &mut Side, call: u32, items: std::ops::Range<u32>) {
    for path in paths(items) {
        b.core.write(call, &path, Bytes::from_static(&[7]));
        b.core.done(call, &path);
    }
}

fn futures(b: &mut Side, call: u32, items: std::ops::Range<u32>) {
    announce(b, call, items.clone());
    settle(b, call, items);
}

#[test]
fn channels_in_a_stream_count_until_both_sides_are_done() {
    let (mut a, mut b) = pair();
    let most = Hello::default().limits.channels;
    let call = streaming(&mut a, &mut b);
    futures(&mut b, call, 0..most - 1);
    assert!(opens(&mut b, call, &paths(most..most + 1)).is_pending());
    quiet(&mut a, &mut b);
    assert!(
        opens(&mut b, call, &paths(most..most + 1)).is_pending(),
        "nothing is read"
    );
    let mut cx = Context::from_waker(Waker::noop());
    a.core.expect(call, &[0, 3]);
    assert!(matches!(a.core.poll_read(call, &[0, 3], &mut cx), Poll::Ready(Ok(v)) if *v == [7]));
    a.core.taken(call, &[0, 3]);
    quiet(&mut a, &mut b);
    assert!(matches!(
        opens(&mut b, call, &paths(most..most + 1)),
        Poll::Ready(Ok(true))
    ));
    assert!(opens(&mut b, call, &paths(most + 1..most + 2)).is_pending());
    // more than ever may be is no matter of waiting
    let failure = opens(&mut b, call, &paths(1000..1000 + most));
    assert!(matches!(failure, Poll::Ready(Err(f)) if f.code == crate::Code::Overloaded));
}

#[test]
fn thousands_of_channels_follow_one_another_in_a_stream() {
    let (mut a, mut b) = pair();
    let call = streaming(&mut a, &mut b);
    let mut cx = Context::from_waker(Waker::noop());
    for i in 0..5000 {
        futures(&mut b, call, i..i + 1);
        quiet(&mut a, &mut b);
        let path = [0, i];
        a.core.expect(call, &path);
        match i % 3 {
            0 => a.core.stop(call, &path),
            _ => {
                assert!(matches!(
                    a.core.poll_read(call, &path, &mut cx),
                    Poll::Ready(Ok(_))
                ));
                a.core.taken(call, &path);
            }
        }
        if i % 7 == 0 {
            quiet(&mut a, &mut b);
        }
    }
    quiet(&mut a, &mut b);
    assert_eq!((a.core.channels(call), b.core.channels(call)), (1, 1));
}

#[test]
fn a_reader_that_leaves_while_the_value_is_on_its_way_is_told_the_end() {
    let (mut a, mut b) = pair();
    let call = streaming(&mut a, &mut b);
    announce(&mut b, call, 0..1);
    quiet(&mut a, &mut b);
    a.core.expect(call, &[0, 0]);
    // STOP and the value cross
    settle(&mut b, call, 0..1);
    a.core.stop(call, &[0, 0]);
    quiet(&mut a, &mut b);
    assert_eq!((a.core.channels(call), b.core.channels(call)), (1, 1));
}

#[test]
fn what_was_announced_in_a_stream_that_is_stopped_is_stopped_too() {
    let (mut a, mut b) = pair();
    let call = streaming(&mut a, &mut b);
    futures(&mut b, call, 0..20);
    announce(&mut b, call, 20..21);
    quiet(&mut a, &mut b);
    a.core.expect(call, &[0]);
    a.core.expect(call, &[0, 5]);
    a.core.stop(call, &[0]);
    quiet(&mut a, &mut b);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        a.core.poll_read(call, &[0, 5], &mut cx).is_ready(),
        "it was taken before"
    );
    // one that comes later
    settle(&mut b, call, 20..21);
    quiet(&mut a, &mut b);
    assert_eq!(
        (a.core.channels(call), b.core.channels(call)),
        (2, 2),
        "the stream and what was taken of it"
    );
}

#[test]
fn a_lost_channel_is_forgotten_when_its_reader_knows() {
    let (mut a, mut b) = pair();
    let call = streaming(&mut a, &mut b);
    let path = [0, 0];
    assert!(matches!(opens(&mut b, call, &paths(0..1)), Poll::Ready(Ok(true))));
    b.core.write(call, &[0], Bytes::from_static(&[1, 0]));
    b.core.write(call, &path, Bytes::from(vec![1; 300 << 10]));
    b.core.lose(call, &path, &Failure::protocol("lost"));
    b.core.done(call, &path);
    quiet(&mut a, &mut b);
    a.core.expect(call, &path);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(a.core.poll_read(call, &path, &mut cx), Poll::Ready(Ok(v)) if v.len() == 300 << 10));
    assert!(matches!(a.core.poll_read(call, &path, &mut cx), Poll::Ready(Err(f)) if f.message == "lost"));
    a.core.taken(call, &path);
    quiet(&mut a, &mut b);
    assert_eq!((a.core.channels(call), b.core.channels(call)), (1, 1));
}
