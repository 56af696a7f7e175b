//! Calls of imports, told to whoever audits them.

use std::fmt::Write;
use std::sync::Arc;

use loop_engine::{Domain, FuncTy, Import, Neutral, Value};
use loop_remote::Encoded;
use pyo3::prelude::*;

use crate::domain::{Python_, got};
use crate::kept::Anchor;

/// Characters of one argument that are told.
const SHOWN: usize = 200;

/// Told of each call as `(interface, function, arguments)`, before it is made.
#[derive(Clone)]
pub struct Audit(pub Arc<Anchor>);

/// A representation whose arguments can be told in words.
pub trait Shown: Domain {
    fn shown(args: &[Self::Value]) -> String;
}

impl Shown for Neutral {
    fn shown(args: &[Value]) -> String {
        let mut text = String::new();
        list(&mut text, args);
        text
    }
}

impl Shown for Python_ {
    fn shown(args: &[Py<PyAny>]) -> String {
        let texts = Python::attach(|py| args.iter().map(|v| got(v.bind(py))).collect::<Vec<_>>());
        texts.join(", ")
    }
}

impl Shown for Encoded {
    /// Bytes on their way to a process that knows them: only that they were sent.
    fn shown(_: &[Self::Value]) -> String {
        "…".into()
    }
}

impl Audit {
    /// The import, whose calls are told.
    pub fn of<D: Shown>(&self, f: &FuncTy, import: Import<D>) -> Import<D> {
        let (audit, path) = (self.clone(), (f.interface.clone(), f.name.clone()));
        let Import { call, waits } = import;
        let told = move |args: Vec<D::Value>| {
            let text = D::shown(&args);
            Python::attach(|py| {
                if let Some(tell) = audit.0.get(py)
                    && let Err(e) = tell.call1(py, (&*path.0, &*path.1, text))
                {
                    e.write_unraisable(py, None);
                }
            });
            call(args)
        };
        Import {
            call: Arc::new(told),
            waits,
        }
    }
}

fn list(text: &mut String, values: &[Value]) {
    for (i, v) in values.iter().enumerate() {
        if i > 0 {
            text.push_str(", ");
        }
        value(text, v);
    }
}

/// Writing to a String cannot fail.
fn value(text: &mut String, v: &Value) {
    let _ = match v {
        Value::Bool(b) => write!(text, "{b}"),
        Value::Num(n, bits) if n.wit().starts_with('s') => write!(text, "{}", *bits as i64),
        Value::Num(n, bits) if n.wit() == "f64" => write!(text, "{}", f64::from_bits(*bits)),
        Value::Num(n, bits) if n.wit() == "f32" => write!(text, "{}", f32::from_bits(*bits as u32)),
        Value::Num(_, bits) => write!(text, "{bits}"),
        Value::Char(c) => write!(text, "{c:?}"),
        Value::String(s) if s.len() > SHOWN => {
            write!(
                text,
                "{:?}… ({} bytes)",
                &s[..s.floor_char_boundary(SHOWN)],
                s.len()
            )
        }
        Value::String(s) => write!(text, "{s:?}"),
        Value::Nums(n, raw) => write!(text, "<{} bytes of {}>", raw.len(), n.wit()),
        Value::List(all) if all.len() > 8 => write!(text, "<{} items>", all.len()),
        Value::List(all) | Value::Fields(all) => {
            text.push('(');
            list(text, all);
            text.push(')');
            Ok(())
        }
        Value::Case(i, None) => write!(text, "case {i}"),
        Value::Case(_, Some(payload)) => {
            value(text, payload);
            Ok(())
        }
        Value::Flags(bits) => write!(text, "{bits:#b}"),
        other => write!(text, "<{other:?}>"),
    };
}
