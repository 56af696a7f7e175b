//! Guest memory and core values that mean a value of a type, but for a mistake here and there.

use arbitrary::{Result, Unstructured};
use loop_engine::Num;
use wasm_encoder::ValType;

use crate::component::{PLANTED, Planted, Signature};
use crate::types::Type;
use crate::values::length;

pub fn plant(u: &mut Unstructured<'_>, signature: &Signature) -> Result<Planted> {
    let mut made = Planter {
        memory: vec![],
        top: 8,
    };
    let tuple = Type::Tuple(signature.params.clone());
    let params = if tuple.flat().len() > 16 {
        vec![made.pointer(u, &tuple)?]
    } else {
        let mut flat = vec![];
        for t in &signature.params {
            flat.extend(made.flat(u, t)?);
        }
        flat
    };
    let result = match &signature.result {
        Some(t) if t.flat().len() > 1 => vec![made.pointer(u, t)?],
        Some(t) => made.flat(u, t)?,
        None => vec![],
    };
    Ok(Planted {
        params,
        result,
        memory: made.memory,
    })
}

struct Planter {
    memory: Vec<u8>,
    top: usize,
}

/// One mistake in so many chances.
const ODDS: u32 = 40;

impl Planter {
    /// Room for `size` bytes; now and then all the way at the end of memory.
    fn room(&mut self, u: &mut Unstructured<'_>, size: usize, align: usize) -> Result<usize> {
        let last = (PLANTED.saturating_sub(size)) / align * align;
        if u.ratio(1, ODDS)? {
            return Ok(last);
        }
        let at = self.top.next_multiple_of(align);
        if at + size > PLANTED {
            return Ok(last);
        }
        self.top = at + size;
        Ok(at)
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = (at + bytes.len()).min(PLANTED);
        if at < end {
            self.memory.resize(self.memory.len().max(end), 0);
            self.memory[at..end].copy_from_slice(&bytes[..end - at]);
        }
    }

    fn pointer(&mut self, u: &mut Unstructured<'_>, ty: &Type) -> Result<u64> {
        let at = self.room(u, ty.size(), ty.align())?;
        self.store(u, ty, at)?;
        word(u, at)
    }

    /// A string or list: pointer and length.
    fn block(&mut self, u: &mut Unstructured<'_>, ty: &Type) -> Result<(u64, u64)> {
        let mut count = length(u)?;
        let at = match ty {
            Type::List(t) => {
                let at = self.room(u, count * t.size(), t.align())?;
                for i in 0..count {
                    self.store(u, t, at + i * t.size())?;
                }
                at
            }
            _ => {
                let at = self.room(u, count * 2, 2)?;
                let mut raw: Vec<u8> = u.bytes((count * 2).min(u.len()))?.to_vec();
                if !u.ratio(1, 4)? {
                    // text in any encoding
                    raw.iter_mut().for_each(|b| *b &= 0x7f);
                }
                self.write(at, &raw);
                if u.ratio(1, 4)? {
                    count |= 1 << 31; // of latin1+utf16: this is UTF-16
                }
                at
            }
        };
        Ok((word(u, at)?, word(u, count)?))
    }

    fn store(&mut self, u: &mut Unstructured<'_>, ty: &Type, at: usize) -> Result<()> {
        match ty {
            Type::String | Type::List(_) => {
                let (p, n) = self.block(u, ty)?;
                self.write(at, &(p as u32).to_le_bytes());
                self.write(at + 4, &(n as u32).to_le_bytes());
            }
            _ => match ty.cases() {
                Some(cases) => {
                    let (size, payload) = ty.tag();
                    let index = index(u, cases.len())?;
                    self.write(at, &index.to_le_bytes()[..size]);
                    if let Some(Some(t)) = cases.get(index as usize) {
                        self.store(u, t, at + payload)?;
                    }
                }
                None if ty.members().is_empty() => {
                    let bits = scalar(u, ty)?;
                    self.write(at, &bits.to_le_bytes()[..ty.size()]);
                }
                None => {
                    for (t, offset) in ty.members().into_iter().zip(ty.offsets()) {
                        self.store(u, t, at + offset)?;
                    }
                }
            },
        }
        Ok(())
    }

    fn flat(&mut self, u: &mut Unstructured<'_>, ty: &Type) -> Result<Vec<u64>> {
        Ok(match ty {
            Type::String | Type::List(_) => {
                let (p, n) = self.block(u, ty)?;
                vec![p, n]
            }
            _ => match ty.cases() {
                Some(cases) => {
                    let joined = ty.flat();
                    let index = index(u, cases.len())?;
                    let mut made = vec![index];
                    if let Some(Some(t)) = cases.get(index as usize) {
                        let narrow = t.flat();
                        for (i, bits) in self.flat(u, t)?.into_iter().enumerate() {
                            let wider = joined[i + 1] == ValType::I64
                                && matches!(narrow[i], ValType::I32 | ValType::F32);
                            // whatever lies above a narrower value is to be ignored
                            made.push(if wider && u.arbitrary()? {
                                u64::from(bits as u32) | u64::from(u.arbitrary::<u32>()?) << 32
                            } else {
                                bits
                            });
                        }
                    }
                    while made.len() < joined.len() {
                        made.push(u.arbitrary()?);
                    }
                    made
                }
                None if ty.members().is_empty() => vec![scalar(u, ty)?],
                None => {
                    let mut made = vec![];
                    for t in ty.members() {
                        made.extend(self.flat(u, t)?);
                    }
                    made
                }
            },
        })
    }
}

/// A pointer or length as it should be, mostly.
fn word(u: &mut Unstructured<'_>, v: usize) -> Result<u64> {
    if !u.ratio(1, ODDS)? {
        return Ok(v as u64);
    }
    Ok(match u.int_in_range(0..=4)? {
        0 => u64::from(u.arbitrary::<u32>()?),
        1 => v as u64 + 1,
        2 => PLANTED as u64,
        3 => u64::from(u32::MAX) - u.int_in_range(0..=8)?,
        _ => u.int_in_range(0..=PLANTED as u64)?,
    })
}

fn index(u: &mut Unstructured<'_>, cases: usize) -> Result<u64> {
    let right = u.int_in_range(0..=cases as u64 - 1)?;
    if !u.ratio(1, ODDS)? {
        return Ok(right);
    }
    Ok(if u.arbitrary()? {
        cases as u64
    } else {
        u.arbitrary::<u32>()?.into()
    })
}

/// The bits of a value that is one core value and no pointer.
fn scalar(u: &mut Unstructured<'_>, ty: &Type) -> Result<u64> {
    Ok(match ty {
        Type::Num(Num::U64 | Num::S64 | Num::F64) => u.arbitrary()?,
        Type::Char => match u.int_in_range(0..=7)? {
            0 => u.int_in_range(0..=0x11_ffff)?,
            1 => u.int_in_range(0xd7ff..=0xe000)?,
            _ => u.int_in_range(0..=0xd7ff)?,
        },
        _ => u64::from(u.arbitrary::<u32>()?),
    })
}
