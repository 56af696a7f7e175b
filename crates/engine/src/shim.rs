//! `Dyn<D, N>`: the one Rust type that stands for every WIT signature.
//!
//! wasmtime's typed calls want parameter and result types with a static flat count and nothing else static. `Dyn`
//! implements the (public, hidden) traits for them with only that count fixed; the plan says the rest at run time.
//! The counts to use, for wasmtime 48.0.8:
//!
//! | | parameters | result |
//! | --- | --- | --- |
//! | export, lifted sync | `Dyn<16>`; more are spilled here, by hand | `Dyn<1>`: a value or the pointer to a spilled one |
//! | export, lifted async | `Dyn<16>` | exact, 0..=16; `Dyn<1>` above (a pointer) |
//! | import | exact, 0..=16; `Dyn<0>` above (wasmtime passes the checked address) | `Dyn<0>` or `Dyn<1>` exact; `Dyn<0>` above |

use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex};

use wasmtime::component::__internal::{
    CanonicalAbiInfo, ComponentTypes, InstanceType, InterfaceType, LiftContext, LowerContext,
};
use wasmtime::component::{ComponentNamedList, ComponentType, Lift, Lower, ResourceAny};
use wasmtime::{Result, ValRaw, bail, format_err};

use crate::domain::Domain;
use crate::error::{Fault, Mismatch};
use crate::lift::Lifter;
use crate::lower::{self, Guest};
use crate::scope;
use crate::slot::Generation;
use crate::types::{Field, FuncTy, Kind, Ty, TyRef};

/// wasmtime's MAX_FLAT_PARAMS.
pub(crate) const MAX_FLAT: usize = 16;

/// Values on their way in or out of a component.
pub(crate) struct Dyn<D: Domain, const N: usize> {
    pub vals: Vec<D::Value>,
    /// Borrows of guest-defined resources that were lifted; to be dropped before the import returns.
    pub borrows: Vec<ResourceAny>,
    /// Slots of host objects lent by these parameters; released by whoever made the call, after it.
    pub lent: Option<Arc<Mutex<Vec<u32>>>>,
    /// Whose values these are, for the error when one does not fit.
    pub origin: Option<Origin>,
    /// Of arguments of an import: the generation of a resource among them. Of an answer: the one that gave it.
    pub of: Option<Arc<Generation>>,
}

/// Where values to lower come from.
pub(crate) enum Origin {
    Arguments(Arc<FuncTy>),
    Result(Arc<FuncTy>),
}

impl Origin {
    /// The mismatch with the function's name. Its path starts with the index of the value in the tuple.
    pub fn fault(&self, mut mismatch: Mismatch) -> Fault {
        let end = mismatch
            .path
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(mismatch.path.len());
        let index = mismatch.path[..end].parse::<usize>().unwrap_or(0);
        mismatch.path.drain(..end);
        let name = |f: &FuncTy| (f.interface.to_string(), f.name.to_string());
        match self {
            Origin::Arguments(f) => {
                let (interface, function) = name(f);
                let parameter = f.params.get(index).map_or(String::new(), |(n, _)| n.to_string());
                Fault::BadArgument {
                    interface,
                    function,
                    parameter,
                    mismatch,
                }
            }
            Origin::Result(f) => {
                let (interface, function) = name(f);
                Fault::BadResult {
                    interface,
                    function,
                    mismatch,
                }
            }
        }
    }

    /// An error of lowering, named if it is a mismatch.
    pub fn name(origin: Option<&Origin>, e: wasmtime::Error) -> wasmtime::Error {
        let Some(origin) = origin else { return e };
        match e.downcast::<Mismatch>() {
            Ok(m) => origin.fault(m).into(),
            Err(e) => e,
        }
    }
}

/// An error of a result that does not fit, with the function's name.
pub fn bad_result(f: &Arc<FuncTy>, e: wasmtime::Error) -> wasmtime::Error {
    Origin::name(Some(&Origin::Result(f.clone())), e)
}

impl<D: Domain, const N: usize> Dyn<D, N> {
    pub fn new(vals: Vec<D::Value>) -> Self {
        Dyn {
            vals,
            borrows: vec![],
            lent: None,
            origin: None,
            of: None,
        }
    }
}

// SAFETY: `Lower` is an array of `ValRaw` of the flat count that the table above asks for, and `typecheck` refuses
// any other. SIZE32 is 0: whatever lies in memory is found by address, and bounds are checked here.
unsafe impl<D: Domain, const N: usize> ComponentType for Dyn<D, N> {
    type Lower = [ValRaw; N];
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo {
        size32: 0,
        align32: 1,
        size64: 0,
        align64: 1,
        flat_count: Some(N as u8),
    };

    fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
        let InterfaceType::Tuple(_) = ty else {
            bail!("expected a tuple")
        };
        match types.types.canonical_abi(ty).flat_count(MAX_FLAT) {
            Some(n) if n != N && N != 0 => bail!("the shim has {N} core values, the type {n}"),
            _ => Ok(()),
        }
    }
}

// SAFETY: as above; the list is the tuple of parameters or results.
unsafe impl<D: Domain, const N: usize> ComponentNamedList for Dyn<D, N> {}

// SAFETY: lifts only from `src` and from memory within its bounds.
unsafe impl<D: Domain, const N: usize> Lift for Dyn<D, N> {
    fn linear_lift_from_flat(cx: &mut LiftContext<'_>, ty: InterfaceType, src: &[ValRaw; N]) -> Result<Self> {
        let plan = plan(cx.types, ty)?;
        lift(cx, |lifter| match &plan.kind {
            Kind::Tuple(slots) if plan.flat <= N => {
                let mut src = src.iter();
                D::all(lifter.d, slots.len(), |i| lifter.flat(&slots[i].ty, &mut src))
            }
            // the spilled result of an export
            _ => {
                let at = src
                    .first()
                    .ok_or_else(|| format_err!("shim too small"))?
                    .get_u32() as usize;
                lifter.tuple_at(&plan, at)
            }
        })
    }

    fn linear_lift_from_memory(cx: &mut LiftContext<'_>, ty: InterfaceType, bytes: &[u8]) -> Result<Self> {
        let plan = plan(cx.types, ty)?;
        // SIZE32 is 0, so `bytes` is empty and its address is the tuple's
        let at = (bytes.as_ptr() as usize).wrapping_sub(cx.memory().as_ptr() as usize);
        lift(cx, |lifter| lifter.tuple_at(&plan, at))
    }
}

fn lift<D: Domain, const N: usize>(
    cx: &mut LiftContext<'_>,
    f: impl for<'a, 'b, 'c> FnOnce(&mut Lifter<'a, 'b, 'c, D>) -> Result<Vec<D::Value>>,
) -> Result<Dyn<D, N>> {
    D::enter(|d| {
        let mut lifter = Lifter::<D> {
            cx,
            d,
            borrows: vec![],
            of: None,
        };
        let vals = f(&mut lifter)?;
        Ok(Dyn {
            vals,
            borrows: lifter.borrows,
            lent: None,
            origin: None,
            of: lifter.of,
        })
    })
}

/// The plan of a type of the instance at work, whose component's types are `types`.
pub(crate) fn plan(types: &ComponentTypes, ty: InterfaceType) -> Result<TyRef> {
    scope::current(|s| s.plans.get(types, ty))
}

// SAFETY: writes all N values on success, and memory only through the checked context.
unsafe impl<D: Domain, const N: usize> Lower for Dyn<D, N> {
    fn linear_lower_to_flat<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        dst: &mut MaybeUninit<[ValRaw; N]>,
    ) -> Result<()> {
        let plan = plan(cx.types, ty)?;
        let slots = self.slots(&plan)?;
        // SAFETY: an array of N values, each of which may be uninitialised.
        let dst: &mut [MaybeUninit<ValRaw>] =
            unsafe { std::slice::from_raw_parts_mut(dst.as_mut_ptr().cast(), N) };
        if plan.flat <= N {
            let mut dst = dst.iter_mut();
            let mut guest = Guest {
                cx,
                lent: self.lent.as_deref(),
                of: self.of.as_ref(),
            };
            scope::lowering(|| {
                D::enter(|d| {
                    for (i, (s, v)) in slots.iter().zip(&self.vals).enumerate() {
                        lower::at(
                            || i.to_string(),
                            lower::flat::<D, _>(&mut guest, &s.ty, &D::view(d, v), &mut dst),
                        )?;
                    }
                    Ok::<_, wasmtime::Error>(())
                })
            })
            .map_err(|e| Origin::name(self.origin.as_ref(), e))?;
            for d in dst {
                d.write(ValRaw::u64(0));
            }
            return Ok(());
        }
        let Some((first, rest)) = dst.split_first_mut() else {
            bail!("shim too small")
        };
        let types: &ComponentTypes = cx.types;
        let abi = types.canonical_abi(&ty);
        let at = scope::lowering(|| cx.realloc(0, 0, abi.align32, abi.size32 as usize))?;
        self.linear_lower_to_memory(cx, ty, at)?;
        first.write(ValRaw::i64(at as i64));
        for d in rest {
            d.write(ValRaw::u64(0));
        }
        Ok(())
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        at: usize,
    ) -> Result<()> {
        let plan = plan(cx.types, ty)?;
        let slots = self.slots(&plan)?;
        let mut guest = Guest {
            cx,
            lent: self.lent.as_deref(),
            of: self.of.as_ref(),
        };
        scope::lowering(|| lower::tuple::<D, _>(&mut guest, slots, &self.vals, at))
            .map_err(|e| Origin::name(self.origin.as_ref(), e))
    }
}

impl<D: Domain, const N: usize> Dyn<D, N> {
    fn slots<'p>(&self, plan: &'p Ty) -> Result<&'p [Field]> {
        match &plan.kind {
            Kind::Tuple(slots) if slots.len() == self.vals.len() => Ok(slots),
            Kind::Tuple(slots) => bail!("{} values for {} types", self.vals.len(), slots.len()),
            _ => bail!("expected a tuple"),
        }
    }
}

/// Calls `$body` with the const `$N` bound to the run-time count `$n`, 0..=16.
macro_rules! with_count {
    ($n:expr, $N:ident, $body:expr) => {
        with_count!(@ $n, $N, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16)
    };
    (@ $n:expr, $N:ident, $body:expr, $($k:literal)*) => {
        match $n {
            $($k => { const $N: usize = $k; $body })*
            n => ::wasmtime::bail!("no shim for {n} core values"),
        }
    };
}
pub(crate) use with_count;
