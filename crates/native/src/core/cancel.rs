//! Tokens that call work off, by hand or when their time is up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use loop_engine::{Import, Neutral, Result, Value};
use tokio_util::sync::CancellationToken;

use super::quota::{Held, Quota};
use super::timers::Timers;
use crate::value::{args, option};

/// A scope of work.
struct Token {
    // That of tokio-util forgets what no handle can cancel any more, and answers without walking the tree.
    inner: CancellationToken,
    /// When its time, or an ancestor's, is up.
    due: Option<Instant>,
    _held: Held,
}

impl Token {
    fn is_cancelled(&self) -> bool {
        self.inner.is_cancelled() || self.due.is_some_and(|due| Instant::now() >= due)
    }
}

type Functions = Vec<(&'static str, Import<Neutral>)>;

/// The functions of `cancel` and `cancellation`.
pub(super) fn functions(quota: Quota, timers: &Arc<Timers>) -> Functions {
    let (of_own, child, timed) = (quota.clone(), quota.clone(), quota);
    let timers = timers.clone();
    vec![
        (
            "cancel#[constructor]token",
            Import::now(move |_| made(CancellationToken::new(), None, &of_own)),
        ),
        (
            "cancel#[method]token.child",
            method(move |token| made(token.inner.child_token(), token.due, &child)),
        ),
        (
            "cancel#[method]token.child-for",
            Import::now(move |a| {
                let [token, after] = args(a)?;
                let token = token.as_host::<Token>()?;
                let due = Instant::now().checked_add(Duration::from_nanos(after.as_u64()?));
                let due = [token.due, due].into_iter().flatten().min();
                made(token.inner.child_token(), due, &timed)
            }),
        ),
        (
            "cancel#[method]token.cancel",
            method(|token| {
                token.inner.cancel();
                Ok(None)
            }),
        ),
        (
            "cancel#[method]token.is-cancelled",
            method(|token| Ok(Some(Value::Bool(token.is_cancelled())))),
        ),
        (
            "cancel#[method]token.remaining",
            method(|token| {
                let left = token.due.map(|due| due.saturating_duration_since(Instant::now()));
                Ok(Some(duration(left)))
            }),
        ),
        (
            "cancel#time-left",
            Import::now(|_| {
                let left = loop_engine::behalf().and_then(|call| call.time_left());
                Ok(Some(duration(left)))
            }),
        ),
        (
            "cancellation#cancelled",
            Import::later(move |a| {
                let timers = timers.clone();
                async move {
                    let [token] = args(a)?;
                    let token = token.as_host::<Token>()?;
                    let timer = timers.start(token.due)?;
                    tokio::select! {
                        () = token.inner.cancelled() => {}
                        () = timer.wait() => {}
                    }
                    Ok(None)
                }
            }),
        ),
    ]
}

fn made(inner: CancellationToken, due: Option<Instant>, quota: &Quota) -> Result<Option<Value>> {
    let _held = quota.take()?;
    Ok(Some(Value::host(Token { inner, due, _held })))
}

fn method(f: impl Fn(&Token) -> Result<Option<Value>> + Send + Sync + 'static) -> Import<Neutral> {
    Import::now(move |a| {
        let [token] = args(a)?;
        f(&*token.as_host::<Token>()?)
    })
}

fn duration(left: Option<Duration>) -> Value {
    option(left.map(|left| Value::u64(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))))
}
