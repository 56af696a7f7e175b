//! Any bytes as values, and any two peers that greet each other.

use std::fmt::Debug;

use arbitrary::{Result, Unstructured};
use loop_wire::codec::{Cursor, Decode, Encode, decode, encode};
use loop_wire::{Failure, Hello, Interface, Limits, Link, serves};

/// Bytes that are held for each byte of a value: an item of a list may be an empty string.
const FOR_EACH: usize = 256;

/// What bytes decode to is written as something that decodes to the same, and is no longer; nothing is held that they do
/// not pay for. Peers that greet each other agree or say why not.
pub fn records(data: &[u8]) {
    let most = crate::memory::most(|| {
        // what is too short to be a case is none
        let _ = run(&mut Unstructured::new(data));
    });
    // room for some thousand items is made ready at once
    assert!(most <= (4 << 20) + FOR_EACH * data.len(), "{most} bytes are held");
}

fn run(u: &mut Unstructured<'_>) -> Result<()> {
    match u.int_in_range(0..=15)? {
        0 => reads::<Hello>(u),
        1 => reads::<Failure>(u),
        2 => reads::<Option<Failure>>(u),
        3 => reads::<Link>(u),
        4 => reads::<Vec<Interface>>(u),
        5 => reads::<(u32, Option<Failure>)>(u),
        6 => reads::<Vec<Vec<u8>>>(u),
        7 => reads::<Vec<(String, String)>>(u),
        8 => reads::<Vec<u16>>(u),
        9 => reads::<(i16, i32, i64, u16)>(u),
        10 => reads::<Vec<char>>(u),
        11 => reads::<(bool, char, u64, i8)>(u),
        12 => numbers(u)?,
        _ => greet(u)?,
    }
    Ok(())
}

fn reads<T: Decode + Encode + PartialEq + Debug>(u: &Unstructured<'_>) {
    let bytes = u.peek_bytes(u.len()).unwrap_or_default();
    if let Ok(value) = decode::<T>(bytes) {
        let again = encode(&value);
        assert!(again.len() <= bytes.len(), "{value:?} has become longer");
        assert_eq!(decode::<T>(&again), Ok(value));
    }
}

/// LEB128 as it is defined, by numbers that are wide enough.
fn numbers(u: &mut Unstructured<'_>) -> Result<()> {
    let bits = *u.choose(&[16, 32, 64])?;
    let n = u.len();
    let bytes = u.bytes(n)?;
    let length = bytes.iter().position(|b| b & 0x80 == 0).map(|at| at + 1);
    let length = length.filter(|n| *n <= (bits as usize).div_ceil(7));
    let wide = |n: usize| {
        let digits = bytes[..n].iter().rev();
        digits.fold(0u128, |v, b| v << 7 | u128::from(b & 0x7f))
    };
    let unsigned = length.map(wide).filter(|v| *v < 1 << bits);
    let read = Cursor::new(bytes).unsigned(bits).ok().map(u128::from);
    assert_eq!(read, unsigned, "u{bits} of {bytes:02x?}");
    let signed = length.map(|n| {
        let sign = 1i128 << (7 * n - 1);
        (wide(n) as i128 ^ sign) - sign
    });
    let most = 1i128 << (bits - 1);
    let signed = signed.filter(|v| (-most..most).contains(v));
    let read = Cursor::new(bytes).signed(bits).ok().map(i128::from);
    assert_eq!(read, signed, "s{bits} of {bytes:02x?}");
    Ok(())
}

fn text(u: &mut Unstructured<'_>, of: &[&str]) -> Result<String> {
    let mut text = (*u.choose(of)?).to_owned();
    if u.ratio(1, 8)? {
        text.push_str(u.arbitrary()?);
    }
    Ok(text)
}

fn interface(u: &mut Unstructured<'_>) -> Result<Interface> {
    let names = ["a:b/c", "a:b/d"];
    let versions = [
        "",
        "@0.1.0",
        "@0.1.2",
        "@0.2.0",
        "@1.0.0",
        "@1.0.0-dev",
        "@1",
        "@",
        "@18446744073709551616.0.0",
    ];
    let count = u.int_in_range(0..=3)?;
    Ok(Interface {
        name: text(u, &names)? + &text(u, &versions)?,
        functions: (0..count).map(|i| format!("f{i}")).collect(),
        types: (0..u.int_in_range(0..=count + 1)?)
            .map(|_| Ok(vec![u.int_in_range(0..=1)?; *u.choose(&[0, 32])?]))
            .collect::<Result<_>>()?,
        resources: vec![],
    })
}

fn interfaces(u: &mut Unstructured<'_>) -> Result<Vec<Interface>> {
    (0..u.int_in_range(0..=3)?).map(|_| interface(u)).collect()
}

pub(crate) fn hello(u: &mut Unstructured<'_>) -> Result<Hello> {
    Ok(Hello {
        protocol: u.int_in_range(1..=2)?,
        identity: text(u, &["", "app"])?,
        exports: interfaces(u)?,
        imports: interfaces(u)?,
        limits: Limits {
            message: u.arbitrary()?,
            ..Limits::default()
        },
        transports: vec![text(u, &["", "shm:"])?],
        ..Hello::default()
    })
}

fn greet(u: &mut Unstructured<'_>) -> Result<()> {
    let (ours, theirs) = (hello(u)?, hello(u)?);
    assert_eq!(decode::<Hello>(&encode(&ours)).as_ref(), Ok(&ours));
    let fits = ours.satisfied_by(&theirs);
    let missing = ours.imports.iter().any(|wanted| theirs.offers(wanted).is_err());
    assert_eq!(
        fits.is_ok(),
        ours.protocol == theirs.protocol && !missing,
        "{fits:?}"
    );
    for wanted in &ours.imports {
        if let Ok((first, offered)) = theirs.offers(wanted) {
            assert!(serves(&offered.name, &wanted.name));
            let all: usize = theirs.exports.iter().map(|i| i.functions.len()).sum();
            assert!(first as usize + offered.functions.len() <= all);
        }
    }
    Ok(())
}
