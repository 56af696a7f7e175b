//! The provider that `loop conform` expects, in Rust.

mod waiting;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::SeqCst};

use futures::{StreamExt, TryStreamExt};
use loop_provider::{Bytes, Call, Code, Failure, Link, Promise, Provider, Stream, Value};
use tokio::sync::oneshot;

use self::waiting::Waiting;

loop_provider::wit!();

/// Functions that give their argument back.
macro_rules! echoes {
    ($($name:ident: $ty:ty;)*) => { $(
        async fn $name(&self, _: Call, v: $ty) -> Result<$ty, Failure> {
            Ok(v)
        }
    )* };
}

struct Values;

impl values::Provider for Values {
    echoes! {
        echo_bool: bool;
        echo_u8: u8;
        echo_s8: i8;
        echo_u16: u16;
        echo_s16: i16;
        echo_u32: u32;
        echo_s32: i32;
        echo_u64: u64;
        echo_s64: i64;
        echo_f32: f32;
        echo_f64: f64;
        echo_char: char;
        echo_string: String;
        echo_bytes: Vec<u8>;
        echo_numbers: Vec<u32>;
        echo_doubles: Vec<f64>;
        echo_strings: Vec<String>;
        echo_fixed: [u16; 3];
        echo_tuple: (u8, String, (bool,));
        echo_point: values::Point;
        echo_shape: values::Shape;
        echo_color: values::Color;
        echo_rights: values::Rights;
        echo_nine: values::Nine;
        echo_option: Option<u32>;
        echo_nested: Option<Option<String>>;
        echo_results: Vec<Result<u8, String>>;
        echo_units: (Result<u8, ()>, Result<(), u8>, Result<(), ()>);
        echo_everything: Vec<values::Everything>;
    }

    async fn nothing(&self, _: Call) -> Result<(), Failure> {
        Ok(())
    }

    async fn two(&self, _: Call, a: u32, b: String) -> Result<String, Failure> {
        Ok(format!("{b}{a}"))
    }
}

#[derive(Default)]
struct Channels {
    drawn: Arc<AtomicU64>,
    held: Waiting,
}

fn broken(why: &str) -> Failure {
    Failure::new(Code::Provider, why).with("type", "OnPurpose")
}

impl channels::Provider for Channels {
    async fn count(&self, _: Call, upto: u32) -> Result<Stream<u32>, Failure> {
        Ok(Stream::of(0..upto))
    }

    async fn words(&self, _: Call, text: String) -> Result<Stream<String>, Failure> {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        Ok(Stream::of(words))
    }

    async fn pipe(&self, _: Call, data: Stream<Bytes>) -> Result<Stream<Bytes>, Failure> {
        Ok(data)
    }

    async fn points(&self, _: Call, items: Stream<values::Point>) -> Result<Stream<values::Point>, Failure> {
        Ok(items)
    }

    async fn sum(&self, _: Call, items: Stream<u64>) -> Result<u64, Failure> {
        items.try_fold(0, async |sum, item| Ok(sum + item)).await
    }

    async fn later(&self, _: Call, text: Promise<String>) -> Result<Promise<String>, Failure> {
        Ok(Promise::fallible(async { Ok(text.await? + "!") }))
    }

    async fn inner(&self, _: Call, items: Promise<Stream<u32>>) -> Result<Promise<Stream<u32>>, Failure> {
        Ok(items)
    }

    async fn each(&self, _: Call, items: Stream<Promise<String>>) -> Result<Stream<String>, Failure> {
        Ok(Stream::fallible(
            items.and_then(|text| async { Ok(text.await? + "!") }),
        ))
    }

    async fn both(
        &self,
        _: Call,
        (items, more): (Stream<u32>, Promise<u32>),
    ) -> Result<channels::Tally, Failure> {
        let (say, total) = oneshot::channel();
        let raised = async move {
            let by = more.await?;
            let state = (items, 0, Some(say));
            let raised = futures::stream::try_unfold(state, move |(mut items, sum, mut say)| async move {
                let Some(item) = items.try_next().await? else {
                    // whoever asked for it may have gone
                    say.take().map(|say| say.send(sum));
                    return Ok(None);
                };
                Ok(Some((item + by, (items, sum + item + by, say))))
            });
            Ok::<_, Failure>(raised)
        };
        Ok(channels::Tally {
            total: Promise::fallible(async { total.await.map_err(|_| broken("there is no total")) }),
            items: Stream::fallible(futures::stream::once(raised).try_flatten()),
        })
    }

    async fn broken(&self, _: Call) -> Result<Stream<u32>, Failure> {
        let items = [Ok(1), Err(broken("broken on purpose"))];
        Ok(Stream::fallible(futures::stream::iter(items)))
    }

    async fn lost(&self, _: Call) -> Result<Promise<String>, Failure> {
        Ok(Promise::fallible(async { Err(broken("lost on purpose")) }))
    }

    async fn endless(&self, _: Call, chunk: u32) -> Result<Stream<Bytes>, Failure> {
        let drawn = self.drawn.clone();
        let zeros = Bytes::from(vec![0; chunk as usize]);
        Ok(Stream::new(futures::stream::repeat_with(move || {
            drawn.fetch_add(chunk.into(), SeqCst);
            zeros.clone()
        })))
    }

    async fn drawn(&self, _: Call) -> Result<u64, Failure> {
        Ok(self.drawn.load(SeqCst))
    }

    async fn hold(&self, _: Call, mut data: Stream<Bytes>, key: String) -> Result<u64, Failure> {
        let first = data.next().await.transpose()?.map_or(0, |piece| piece.len());
        self.held.wait(key).await;
        let rest = data.try_fold(0, async |sum, piece| Ok(sum + piece.len())).await?;
        Ok((first + rest) as u64)
    }

    async fn let_go(&self, _: Call, key: String) -> Result<(), Failure> {
        self.held.release(&key);
        Ok(())
    }
}

/// A resource, which counts how many of its link there are.
pub struct Counter {
    value: AtomicU32,
    live: Arc<AtomicI64>,
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.live.fetch_sub(1, SeqCst);
    }
}

#[derive(Default)]
struct Resources {
    live: Arc<AtomicI64>,
}

impl Resources {
    fn counter(&self, start: u32) -> Arc<Counter> {
        self.live.fetch_add(1, SeqCst);
        Arc::new(Counter {
            value: AtomicU32::new(start),
            live: self.live.clone(),
        })
    }
}

impl resources::Provider for Resources {
    async fn counter_new(&self, _: Call, start: u32) -> Result<Arc<Counter>, Failure> {
        Ok(self.counter(start))
    }

    async fn counter_add(&self, _: Call, this: Arc<Counter>, n: u32) -> Result<u32, Failure> {
        Ok(this.value.fetch_add(n, SeqCst) + n)
    }

    async fn counter_value(&self, _: Call, this: Arc<Counter>) -> Result<u32, Failure> {
        Ok(this.value.load(SeqCst))
    }

    async fn counter_merge(
        &self,
        call: Call,
        this: Arc<Counter>,
        other: Arc<Counter>,
    ) -> Result<u32, Failure> {
        let n = other.value.load(SeqCst);
        self.counter_add(call, this, n).await
    }

    async fn counter_make(&self, _: Call, n: u32) -> Result<Vec<Arc<Counter>>, Failure> {
        Ok((0..n).map(|start| self.counter(start)).collect())
    }

    async fn counter_total(&self, _: Call, of: Vec<Arc<Counter>>) -> Result<u32, Failure> {
        Ok(of.iter().map(|counter| counter.value.load(SeqCst)).sum())
    }

    async fn live(&self, _: Call) -> Result<u32, Failure> {
        Ok(self.live.load(SeqCst) as u32)
    }
}

/// How often it was reloaded, and whether the next time is to fail.
static GENERATION: AtomicU32 = AtomicU32::new(0);
static BREAKS: AtomicBool = AtomicBool::new(false);

fn reload() -> Result<(), Failure> {
    if BREAKS.swap(false, SeqCst) {
        return Err(broken("this reload fails on purpose"));
    }
    GENERATION.fetch_add(1, SeqCst);
    Ok(())
}

#[derive(Default)]
struct Calls {
    calls: Waiting,
    cancelled: Arc<AtomicU32>,
}

/// Counts calls that are dropped before they are done.
struct Cancelled(Option<Arc<AtomicU32>>);

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Some(cancelled) = &self.0 {
            cancelled.fetch_add(1, SeqCst);
        }
    }
}

impl calls::Provider for Calls {
    async fn add(&self, _: Call, a: u32, b: u32) -> Result<u32, Failure> {
        Ok(a + b)
    }

    async fn check(&self, _: Call, text: String) -> Result<Result<u32, calls::Problem>, Failure> {
        Ok(match text.chars().count() as u32 {
            0 => Err(calls::Problem::Missing),
            n @ 11.. => Err(calls::Problem::TooLong(n)),
            n => Ok(n),
        })
    }

    async fn refuse(&self, _: Call) -> Result<Result<(), ()>, Failure> {
        Ok(Err(()))
    }

    async fn fail(&self, _: Call, message: String) -> Result<(), Failure> {
        Err(broken(&message))
    }

    async fn wait(&self, _: Call, key: String) -> Result<u32, Failure> {
        let mut cancelled = Cancelled(Some(self.cancelled.clone()));
        self.calls.wait(key).await;
        cancelled.0 = None;
        Ok(1)
    }

    async fn release(&self, _: Call, key: String) -> Result<(), Failure> {
        self.calls.release(&key);
        Ok(())
    }

    async fn waiting(&self, _: Call) -> Result<u32, Failure> {
        Ok(self.calls.count() as u32)
    }

    async fn cancelled(&self, _: Call) -> Result<u32, Failure> {
        Ok(self.cancelled.load(SeqCst))
    }

    async fn linked(&self, call: Call) -> Result<calls::Link, Failure> {
        let json = |value: &Option<Value>| value.as_ref().map_or(String::new(), Value::to_string);
        Ok(calls::Link {
            grant: json(&call.link.grant),
            config: json(&call.link.config),
        })
    }

    async fn generation(&self, _: Call) -> Result<u32, Failure> {
        Ok(GENERATION.load(SeqCst))
    }

    async fn break_reload(&self, _: Call) -> Result<(), Failure> {
        BREAKS.store(true, SeqCst);
        Ok(())
    }
}

fn calls_of(link: &Link) -> Result<Calls, Failure> {
    match &link.grant {
        Some(grant) if grant["refuse"] == true => Err(link.refuse("this grant is refused on purpose")),
        _ => Ok(Calls::default()),
    }
}

fn main() -> ExitCode {
    Provider::new()
        .with(values::provide(|_| Ok(Values)))
        .with(channels::provide(|_| Ok(Channels::default())))
        .with(resources::provide(|_| Ok(Resources::default())))
        .with(calls::provide(calls_of))
        .on_reload(reload)
        .run()
}
