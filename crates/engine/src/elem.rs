//! The element of a stream of any payload.

use std::cell::Cell;
use std::mem::MaybeUninit;

use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext, LowerContext,
};
use wasmtime::component::{ComponentType, Lift, Lower};
use wasmtime::{Result, ValRaw, bail};

use crate::domain::Domain;
use crate::lift::Lifter;
use crate::lower;
use crate::scope;
use crate::shim::plan;

thread_local! {
    /// Index of the next element within the guest write being read.
    static AT: Cell<usize> = const { Cell::new(0) };
}

/// Begins with the first element again: a guest's write is offered from its start.
pub(crate) fn rewind() {
    AT.set(0);
}

/// A stream element of any layout.
///
/// wasmtime steps through a guest's buffer by the element's static size, which is 0 here, so it hands out the
/// buffer's own address every time; the index is kept in [`AT`].
pub(crate) struct Elem<D: Domain>(pub D::Value);

// SAFETY: with a static size of 0 wasmtime's own bounds check covers nothing, so every access is checked here.
unsafe impl<D: Domain> ComponentType for Elem<D> {
    type Lower = [ValRaw; 0];
    const ABI: CanonicalAbiInfo = CanonicalAbiInfo {
        size32: 0,
        align32: 1,
        size64: 0,
        align64: 1,
        flat_count: None,
    };

    fn typecheck(_: &InterfaceType, _: &InstanceType<'_>) -> Result<()> {
        Ok(())
    }
}

// SAFETY: as above.
unsafe impl<D: Domain> Lift for Elem<D> {
    fn linear_lift_from_flat(_: &mut LiftContext<'_>, _: InterfaceType, _: &[ValRaw; 0]) -> Result<Self> {
        bail!("a stream element is never flat")
    }

    fn linear_lift_from_memory(cx: &mut LiftContext<'_>, ty: InterfaceType, bytes: &[u8]) -> Result<Self> {
        let plan = plan(cx.types, ty)?;
        let index = AT.replace(AT.get() + 1);
        let base = (bytes.as_ptr() as usize).wrapping_sub(cx.memory().as_ptr() as usize);
        let at = index.checked_mul(plan.size).and_then(|o| o.checked_add(base));
        let Some(at) = at.filter(|at| at.is_multiple_of(plan.align)) else {
            bail!("stream buffer is not aligned")
        };
        D::enter(|d| {
            Lifter::<D> {
                cx,
                d,
                borrows: vec![],
                of: None,
            }
            .load(&plan, at)
            .map(|v| Elem(D::whole(d, v)))
        })
    }
}

// SAFETY: as above.
unsafe impl<D: Domain> Lower for Elem<D> {
    fn linear_lower_to_flat<T>(
        &self,
        _: &mut LowerContext<'_, T>,
        _: InterfaceType,
        _: &mut MaybeUninit<[ValRaw; 0]>,
    ) -> Result<()> {
        bail!("a stream element is never flat")
    }

    fn linear_lower_to_memory<T>(
        &self,
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        at: usize,
    ) -> Result<()> {
        Self::linear_store_list_to_memory(cx, ty, at, std::slice::from_ref(self))
    }

    fn linear_store_list_to_memory<T>(
        cx: &mut LowerContext<'_, T>,
        ty: InterfaceType,
        at: usize,
        items: &[Self],
    ) -> Result<()> {
        let plan = plan(cx.types, ty)?;
        let end = plan.size.checked_mul(items.len()).and_then(|n| n.checked_add(at));
        if !at.is_multiple_of(plan.align) || end.is_none_or(|end| end > cx.as_slice_mut().len()) {
            bail!("stream buffer is not aligned or out of bounds");
        }
        let mut guest = lower::Guest {
            cx,
            lent: None,
            of: None,
        };
        scope::lowering(|| {
            D::enter(|d| {
                items.iter().enumerate().try_for_each(|(i, e)| {
                    lower::store::<D, _>(&mut guest, &plan, &D::view(d, &e.0), at + i * plan.size)
                })
            })
        })
    }
}
