//! Bytes from outside, checked as a whole before anything is made of them.

use std::fmt;

use loop_engine::{Kind, Ty, TyRef};
use loop_wire::codec::{Cursor, Invalid, ZERO_SIZED};

use crate::nums;

/// Steps of a path.
const PATH: usize = 32;
/// Streams, futures and handles of one root.
const SPOTS: usize = 1 << 16;
/// Bytes of a handle.
pub(crate) const HANDLE: usize = 64;

/// Bytes that are not a value of their type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadBytes {
    pub cause: Invalid,
    /// The byte where the part begins that is wrong.
    pub offset: usize,
    /// Where in the value: `.point.x`, `[3]`; empty at the top.
    pub path: String,
    /// The type of that part.
    pub expected: String,
}

impl BadBytes {
    fn new(ty: &Ty, offset: usize, cause: Invalid) -> Box<Self> {
        Box::new(BadBytes {
            cause,
            offset,
            path: String::new(),
            expected: ty.wit(),
        })
    }

    pub(crate) fn trailing(offset: usize) -> Self {
        BadBytes {
            cause: Invalid::Trailing,
            offset,
            path: String::new(),
            expected: "the end".into(),
        }
    }
}

impl fmt::Display for BadBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(
            f,
            "expected {} at byte {}: {}",
            self.expected, self.offset, self.cause
        )
    }
}

impl std::error::Error for BadBytes {}

/// Checks that `bytes` are one value of type `ty`. Nothing is allocated but for an error, and for what is met of
/// handles, streams and futures.
pub fn check(ty: &Ty, bytes: &[u8]) -> Result<(), BadBytes> {
    let mut walk = Walk::new(bytes, 0, &[]);
    walk.value(ty).map_err(|e| *e)?;
    walk.end().map_err(|e| *e)
}

/// A handle, stream or future in the bytes.
pub(crate) struct Spot<'t> {
    pub at: usize,
    pub next: usize,
    pub path: Box<[u32]>,
    pub ty: &'t Ty,
    /// The items or the value follow on the path.
    pub pending: bool,
}

pub(crate) struct Walk<'b, 't> {
    bytes: &'b [u8],
    from: Cursor<'b>,
    /// Items without size that may still come.
    units: usize,
    path: [u32; PATH],
    depth: usize,
    /// What lies in a ready stream or future is met when its items are taken.
    ready: usize,
    pub spots: Vec<Spot<'t>>,
}

type Checked = Result<(), Box<BadBytes>>;

impl<'b, 't> Walk<'b, 't> {
    /// Begins at byte `at` of `bytes` with the path `base`.
    pub fn new(bytes: &'b [u8], at: usize, base: &[u32]) -> Self {
        let mut path = [0; PATH];
        path.iter_mut().zip(base).for_each(|(to, from)| *to = *from);
        Walk {
            bytes,
            from: Cursor::new(&bytes[at..]),
            units: ZERO_SIZED,
            path,
            depth: base.len(),
            ready: 0,
            spots: vec![],
        }
    }

    /// The byte that is next.
    pub fn at(&self) -> usize {
        self.bytes.len() - self.from.rest().len()
    }

    pub fn end(&self) -> Checked {
        if self.from.rest().is_empty() {
            return Ok(());
        }
        Err(Box::new(BadBytes::trailing(self.at())))
    }

    /// A part of a tuple of values: its number is the first of its path, and comes before the path of an error.
    pub fn part(&mut self, ty: &'t Ty, index: u32) -> Checked {
        self.within(index, |w| w.value(ty)).map_err(|mut e| {
            e.path.insert_str(0, &index.to_string());
            e
        })
    }

    pub fn value(&mut self, ty: &'t Ty) -> Checked {
        match &ty.kind {
            Kind::Bool => self.read(ty, Cursor::bool).map(drop),
            Kind::Num(n) => self.read(ty, |from| nums::take(from, *n)).map(drop),
            Kind::Char => self.read(ty, Cursor::char).map(drop),
            Kind::String | Kind::ErrorContext => self.read(ty, Cursor::string).map(drop),
            Kind::List(t) => {
                let n = self.read(ty, |from| from.unsigned(32))? as usize;
                self.items(ty, t, n)
            }
            Kind::FixedList(t, _) if is_empty(t) => Ok(()),
            Kind::FixedList(t, n) => (0..*n).try_for_each(|i| self.item(t, i)),
            Kind::Tuple(slots) => (slots.iter().enumerate()).try_for_each(|(i, s)| self.item(&s.ty, i)),
            Kind::Record(fields) => (fields.iter().enumerate()).try_for_each(|(i, f)| {
                let checked = self.within(i as u32, |w| w.value(&f.ty));
                checked.map_err(|e| under(e, &[".", &f.name]))
            }),
            Kind::Variant { cases, .. } => {
                let case = self.read(ty, |from| from.case(cases.len()))?;
                self.payload(cases[case].ty.as_ref(), case, &[".", &cases[case].name])
            }
            Kind::Enum { names, .. } => self.read(ty, |from| from.case(names.len())).map(drop),
            Kind::Option { some, .. } => match self.read(ty, |from| from.case(2))? {
                0 => Ok(()),
                _ => self.payload(Some(some), 1, &[]),
            },
            Kind::Result { ok, err, .. } => match self.read(ty, |from| from.case(2))? {
                0 => self.payload(ok.as_ref(), 0, &[".ok"]),
                _ => self.payload(err.as_ref(), 1, &[".err"]),
            },
            Kind::Flags(names) => self.read(ty, |from| from.take(names.len().div_ceil(8))).map(drop),
            Kind::Own(_) | Kind::Borrow(_) => {
                let at = self.at();
                self.read(ty, |from| match from.bytes()? {
                    handle if handle.len() > HANDLE => Err(Invalid::Limit("a handle")),
                    _ => Ok(()),
                })?;
                self.spot(ty, at, false)
            }
            Kind::Stream(t) => {
                let at = self.at();
                let there = self.read(ty, Cursor::bool)?;
                self.ready += 1;
                if there {
                    self.count(ty, t.as_ref())?;
                }
                self.ready -= 1;
                self.spot(ty, at, !there)
            }
            Kind::Future(t) => {
                let at = self.at();
                let there = self.read(ty, Cursor::bool)?;
                self.ready += 1;
                if let Some(t) = t.as_ref().filter(|_| there) {
                    self.value(t)?;
                }
                self.ready -= 1;
                self.spot(ty, at, !there)
            }
        }
    }

    #[inline]
    fn read<R>(
        &mut self,
        ty: &Ty,
        f: impl FnOnce(&mut Cursor<'b>) -> Result<R, Invalid>,
    ) -> Result<R, Box<BadBytes>> {
        let at = self.at();
        f(&mut self.from).map_err(|cause| BadBytes::new(ty, at, cause))
    }

    /// `n` items of type `t` in a list or stream of type `ty`.
    pub fn items(&mut self, ty: &Ty, t: &'t TyRef, n: usize) -> Checked {
        if let Kind::Num(kind) = t.kind {
            return self.read(ty, |from| nums::skip_items(from, kind, n));
        }
        if is_empty(t) {
            return self.units(ty, self.at(), n);
        }
        // each item takes a byte at least: a count that only claims is not counted up to
        if n > self.from.rest().len() {
            return Err(BadBytes::new(ty, self.at(), Invalid::Truncated));
        }
        (0..n).try_for_each(|i| self.item(t, i))
    }

    /// All items of a ready stream of type `ty`, or of a chunk of one.
    pub fn count(&mut self, ty: &Ty, payload: Option<&'t TyRef>) -> Checked {
        let at = self.at();
        let n = self.read(ty, |from| from.unsigned(32))? as usize;
        match payload {
            Some(t) => self.items(ty, t, n),
            None => self.units(ty, at, n),
        }
    }

    fn units(&mut self, ty: &Ty, at: usize, n: usize) -> Checked {
        match self.units.checked_sub(n) {
            Some(left) => self.units = left,
            None => return Err(BadBytes::new(ty, at, Invalid::Limit("a list's length"))),
        }
        Ok(())
    }

    fn item(&mut self, t: &'t TyRef, i: usize) -> Checked {
        let checked = self.within(i as u32, |w| w.value(t));
        checked.map_err(|e| under(e, &["[", &i.to_string(), "]"]))
    }

    fn payload(&mut self, t: Option<&'t TyRef>, case: usize, segment: &[&str]) -> Checked {
        let Some(t) = t else { return Ok(()) };
        let checked = self.within(case as u32, |w| w.value(t));
        checked.map_err(|e| under(e, segment))
    }

    #[inline]
    fn within(&mut self, step: u32, f: impl FnOnce(&mut Self) -> Checked) -> Checked {
        if let Some(at) = self.path.get_mut(self.depth) {
            *at = step;
        }
        self.depth += 1;
        let checked = f(self);
        self.depth -= 1;
        checked
    }

    fn spot(&mut self, ty: &'t Ty, at: usize, pending: bool) -> Checked {
        if self.ready > 0 {
            return Ok(());
        }
        let Some(path) = self.path.get(..self.depth) else {
            return Err(BadBytes::new(ty, at, Invalid::Limit("a path")));
        };
        if self.spots.len() == SPOTS {
            return Err(BadBytes::new(
                ty,
                at,
                Invalid::Limit("the number of handles, streams and futures"),
            ));
        }
        self.spots.push(Spot {
            at,
            next: self.at(),
            path: path.into(),
            ty,
            pending,
        });
        Ok(())
    }
}

#[cold]
fn under(mut e: Box<BadBytes>, segment: &[&str]) -> Box<BadBytes> {
    e.path.insert_str(0, &segment.concat());
    e
}

/// Whether values of the type take no bytes.
pub(crate) fn is_empty(ty: &Ty) -> bool {
    match &ty.kind {
        Kind::Record(fields) | Kind::Tuple(fields) => fields.iter().all(|f| is_empty(&f.ty)),
        Kind::FixedList(t, n) => *n == 0 || is_empty(t),
        Kind::Flags(names) => names.is_empty(),
        _ => false,
    }
}
