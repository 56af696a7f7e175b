//! How much native stack is left.
//!
//! Every entry into wasm may use [`WASM_STACK`] of the stack it is made on, and wasmtime checks only its own share.
//! Synchronous calls nest on one stack, so what is left is looked at before each; overrunning would be a crash.

use std::cell::Cell;

use crate::engine::WASM_STACK;
use crate::error::Fault;

/// What host code between two entries may need.
const MARGIN: usize = 256 << 10;

thread_local! {
    /// Lowest usable address of this thread's stack and its highest; zeros until asked for.
    static BOUNDS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// Errors with [`Fault::Stack`] when another entry into wasm would not fit.
pub(crate) fn check() -> wasmtime::Result<()> {
    let here = 0u8;
    let here = std::ptr::from_ref(&here) as usize;
    let (low, high) = BOUNDS.get();
    let (low, high) = if high == 0 {
        let bounds = bounds();
        BOUNDS.set(bounds);
        bounds
    } else {
        (low, high)
    };
    // on a fibre the address is outside: that stack is ours and large, and asynchronous calls do not nest on it
    if !(low..high).contains(&here) || here - low > WASM_STACK + MARGIN {
        Ok(())
    } else {
        Err(Fault::Stack.into())
    }
}

#[cfg(target_os = "linux")]
fn bounds() -> (usize, usize) {
    // SAFETY: an attribute object that is initialised by the first call and destroyed after the second.
    unsafe {
        let mut attr = std::mem::zeroed::<libc::pthread_attr_t>();
        if libc::pthread_getattr_np(libc::pthread_self(), &raw mut attr) != 0 {
            return (0, usize::MAX);
        }
        let (mut low, mut size, mut guard) = (std::ptr::null_mut(), 0, 0);
        libc::pthread_attr_getstack(&raw const attr, &raw mut low, &raw mut size);
        libc::pthread_attr_getguardsize(&raw const attr, &raw mut guard);
        libc::pthread_attr_destroy(&raw mut attr);
        let low = low as usize;
        (low + guard, low + size)
    }
}

#[cfg(not(target_os = "linux"))]
fn bounds() -> (usize, usize) {
    // 512 KiB is the smallest default of a thread elsewhere: one entry is assumed to fit, nesting is bounded by depth
    (0, usize::MAX)
}
