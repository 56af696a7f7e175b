//! Any bytes as frames, cut in two ways.

use arbitrary::{Result, Unstructured};
use loop_wire::arena::Arena;
use loop_wire::frame::{FRAME, PREFACE};
use loop_wire::session::{Arrived, Inbox};

use crate::session::{KINDS, placed};
use crate::{FOR_EACH, HELD, frame};

/// Bytes of a message.
const MESSAGE: u64 = 1 << 16;

/// However bytes are cut, the same frames come of them, and no more is held than they pay for.
pub fn frames(data: &[u8]) {
    let most = crate::memory::most(|| {
        // what is too short to be a case is none
        let _ = run(&mut Unstructured::new(data));
    });
    assert!(most <= HELD + FOR_EACH * data.len(), "{most} bytes are held");
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    let (preface, shares) = (u.arbitrary()?, u.arbitrary()?);
    let cuts: [u8; 8] = u.arbitrary()?;
    let bytes = bytes(u, preface)?;
    let all = read(&bytes, preface, shares, &[0]);
    let cut = read(&bytes, preface, shares, &cuts);
    assert_eq!(all, cut, "cut by {cuts:?}");
    Ok(())
}

/// Frames, most of them well formed, and what is none.
fn bytes(u: &mut Unstructured<'_>, preface: bool) -> Result<Vec<u8>> {
    let mut bytes = vec![];
    if preface && u.ratio(7, 8)? {
        bytes.extend_from_slice(&PREFACE);
    }
    while !u.is_empty() && bytes.len() < 4 * FRAME {
        let kind = *u.choose(&KINDS)?;
        let stream = u.int_in_range(0..=4)?;
        if let Some((payload, _)) = placed(u, kind)? {
            bytes.extend(frame(kind, stream, &payload));
            continue;
        }
        let n = u.int_in_range(0..=40)?.min(u.len());
        let mut payload = u.bytes(n)?.to_vec();
        match u.int_in_range(0..=15)? {
            0 => bytes.append(&mut payload),
            1 => {
                payload.resize(u.int_in_range(0..=FRAME + 1)?, 1);
                bytes.extend(frame(kind, stream, &payload));
            }
            _ => bytes.extend(frame(kind, stream, &payload)),
        }
    }
    Ok(bytes)
}

/// What comes of bytes that are read in parts of these sizes in turn; 0 is all at once.
fn read(mut bytes: &[u8], preface: bool, shares: bool, sizes: &[u8]) -> Vec<String> {
    let mut inbox = Inbox::new(MESSAGE, preface);
    if shares && let Ok((_, descriptor)) = Arena::new(8192) {
        inbox.passed(descriptor);
    }
    let mut frames = vec![];
    for size in sizes.iter().cycle() {
        let part = match usize::from(*size) {
            0 => bytes.len(),
            // some large, so that long frames take their own way, some of a byte
            n if n >= 128 => (n << 10).min(bytes.len()),
            n => n.min(bytes.len()),
        };
        let (now, later) = bytes.split_at(part);
        inbox.feed(now);
        bytes = later;
        loop {
            match inbox.frame() {
                Ok(Some(arrived)) => frames.push(shown(&arrived)),
                Ok(None) => break,
                Err(failure) => {
                    frames.push(failure.to_string());
                    return frames;
                }
            }
        }
        if bytes.is_empty() {
            break;
        }
    }
    frames
}

/// All of it, the payload by its sum.
fn shown(a: &Arrived) -> String {
    let add = |sum: u64, b: &u8| sum.wrapping_mul(31).wrapping_add(u64::from(*b));
    let (n, sum) = (a.payload.len(), a.payload.iter().fold(0, add));
    format!(
        "{:02x} {} {n} {sum} {} {:?} {:?} {}",
        a.kind, a.stream, a.charged, a.state, a.path, a.placed
    )
}
