//! What the connection as a whole may carry.

use super::{Carries, Core};
use crate::codec::put_unsigned;
use crate::failure::Failure;
use crate::frame::kind;
use crate::hello::Limits;

impl<U> Core<U> {
    /// Bytes that were taken, to be allowed again.
    pub(in crate::session) fn owe(&mut self, n: usize) {
        if self.carries != Carries::One {
            self.owed += n as u32;
        }
    }

    pub(super) fn give_back(&mut self) {
        let n = std::mem::take(&mut self.owed);
        self.allowed += u64::from(n);
        self.out.frame(kind::CREDIT, 0, |b| {
            b.push(0);
            put_unsigned(b, n.into());
        });
    }

    /// Counts bytes that the peer sent against what it may.
    pub(super) fn charge(&mut self, n: usize) -> Result<(), Failure> {
        if self.carries == Carries::One {
            return Ok(());
        }
        match self.allowed.checked_sub(n as u64) {
            Some(left) => {
                self.allowed = left;
                Ok(())
            }
            None => Err(Failure::protocol("the peer sent more than its credit")),
        }
    }

    pub(in crate::session) fn spend(&mut self, n: usize) {
        self.credit = self.credit.saturating_sub(n as u64);
    }

    pub(in crate::session) fn credit(&self) -> u64 {
        self.credit
    }

    pub(in crate::session) fn our_limits(&self) -> &Limits {
        &self.ours
    }
}
