//! Calls to and of peers that speak plain wRPC, which say neither what they offer nor where a value ends.

use std::sync::{Arc, PoisonError, RwLock};

use loop_engine::{FuncTy, Kind, Ty};
use loop_wire::codec::Invalid;
use loop_wire::plain::{Extent, Part, Roots};

use crate::check::{BadBytes, Walk, is_empty};

/// The functions that are called at a plain peer, in the order in which they were first asked for; or those that it may
/// call here.
#[derive(Default)]
pub struct Functions(RwLock<Vec<Arc<FuncTy>>>);

impl Functions {
    /// Those that are served, by their numbers.
    pub fn of(served: Vec<Arc<FuncTy>>) -> Self {
        Functions(RwLock::new(served))
    }

    /// The number of a function, a new one where it has none yet.
    pub(crate) fn number(&self, f: &Arc<FuncTy>) -> u32 {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let same = |k: &Arc<FuncTy>| k.interface == f.interface && k.name == f.name;
        if let Some(at) = known.iter().position(same) {
            return at as u32;
        }
        known.push(f.clone());
        known.len() as u32 - 1
    }

    fn get(&self, function: u32) -> Option<Arc<FuncTy>> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        known.get(function as usize).cloned()
    }
}

impl Roots for Functions {
    fn extent(&self, function: u32, part: Part<'_>, bytes: &[u8], _: bool) -> Extent {
        let Some(f) = self.get(function) else {
            return Extent::Invalid(Invalid::Value);
        };
        let channel = match part {
            Part::Params => return measured(&f.param_tuple, bytes),
            Part::Result => return measured(&f.result_tuple, bytes),
            Part::ParamsChannel(path) => within(&f.param_tuple, path),
            Part::ResultChannel(path) => within(&f.result_tuple, path),
        };
        let Some(ty) = channel else {
            return Extent::Invalid(Invalid::Value);
        };
        match &ty.kind {
            Kind::Future(None) => Extent::Complete(0),
            Kind::Future(Some(t)) => measured(t, bytes),
            Kind::Stream(t) => extent(bytes, |walk| walk.count(ty, t.as_ref())),
            _ => Extent::Invalid(Invalid::Value),
        }
    }

    fn name(&self, function: u32) -> Option<(String, String)> {
        let f = self.get(function)?;
        Some((f.interface.to_string(), f.name.to_string()))
    }

    fn is_silent(&self, function: u32) -> bool {
        self.get(function).is_some_and(|f| is_empty(&f.result_tuple))
    }

    fn owns(&self, function: u32) -> bool {
        let f = self.get(function);
        f.is_some_and(|f| f.result_tuple.any(&|t| matches!(t.kind, Kind::Own(_))))
    }
}

/// Where a value of that type ends.
fn measured(ty: &Ty, bytes: &[u8]) -> Extent {
    extent(bytes, |walk| walk.value(ty))
}

fn extent<'b, 't>(
    bytes: &'b [u8],
    measure: impl FnOnce(&mut Walk<'b, 't>) -> Result<(), Box<BadBytes>>,
) -> Extent {
    let mut walk = Walk::new(bytes, 0, &[]);
    match measure(&mut walk).map_err(|e| e.cause) {
        Ok(()) => Extent::Complete(walk.at()),
        Err(Invalid::Truncated) => Extent::Truncated,
        Err(cause) => Extent::Invalid(cause),
    }
}

/// The type at a path.
fn within<'t>(ty: &'t Ty, path: &[u32]) -> Option<&'t Ty> {
    path.iter().try_fold(ty, |ty, step| {
        let at = *step as usize;
        let found = match &ty.kind {
            Kind::Tuple(fields) | Kind::Record(fields) => fields.get(at).map(|f| &f.ty),
            Kind::List(t) | Kind::FixedList(t, _) => Some(t),
            Kind::Stream(t) | Kind::Future(t) => t.as_ref(),
            _ => ty.case(at)?,
        };
        found.map(|ty| &**ty)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_end_where_their_types_say() {
        let ty = loop_engine::parse_type("tuple<string, stream<u16>, option<list<stream>>>").unwrap();
        assert_eq!(measured(&ty, b"\x02hi\x00\x00more"), Extent::Complete(5));
        assert_eq!(measured(&ty, b"\x02hi\x00"), Extent::Truncated);
        assert_eq!(measured(&ty, b"\x02\xff\xff"), Extent::Invalid(Invalid::Utf8));
        assert_eq!(within(&ty, &[1]).unwrap().wit(), "stream<u16>");
        assert_eq!(within(&ty, &[2, 1, 7]).unwrap().wit(), "stream");
        assert!(within(&ty, &[0, 0]).is_none());
        let chunk = |item: Option<&_>, bytes| extent(bytes, |walk| walk.count(&ty, item));
        let item = loop_engine::parse_type("u16").unwrap();
        assert_eq!(chunk(Some(&item), b"\x02\x01\xac\x02\x00"), Extent::Complete(4));
        assert_eq!(chunk(Some(&item), b"\x02\x01\xac"), Extent::Truncated);
        assert_eq!(chunk(None, b"\x03"), Extent::Complete(1));
    }
}
