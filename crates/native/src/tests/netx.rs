mod client;
mod server;
mod socket;
mod wrpc;

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use loop_engine::{Chunk, Feed, Settle, Value};
use serde_json::{Value as Json, json};

use super::{Bench, s};

type Fields = Vec<(String, String)>;

/// How long a client of a test waits for what must come at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a scripted server was sent, one entry a connection.
type Seen = Arc<Mutex<Vec<String>>>;

/// A server that answers the n-th head on all its connections with what `answer` gives for it, and keeps the
/// connection for as long as that is not empty.
fn scripted(answer: impl Fn(usize, &str) -> Vec<u8> + Send + Sync + 'static) -> (u16, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Seen::default();
    let (log, answer) = (seen.clone(), Arc::new(answer));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (log, answer) = (log.clone(), answer.clone());
            thread::spawn(move || talk(stream.unwrap(), &log, &*answer));
        }
    });
    (port, seen)
}

fn talk(mut stream: TcpStream, log: &Seen, answer: &dyn Fn(usize, &str) -> Vec<u8>) {
    loop {
        let Some(head) = head(&mut stream) else { return };
        let n = {
            let mut log = log.lock().unwrap();
            log.push(head.clone());
            log.len() - 1
        };
        let bytes = answer(n, &head);
        if bytes.is_empty() || stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// A head and the body that its `content-length` states.
fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let text = String::from_utf8(head).unwrap();
    let length = text
        .lines()
        .find_map(|l| l.strip_prefix("content-length: "))
        .map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(text + &String::from_utf8_lossy(&body))
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn redirect(status: u16, to: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Go\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

/// A provider that may reach all of this machine.
fn local(mut grant: Json) -> Bench {
    let schemes = ["http", "https", "ws", "wss"];
    let mut allow: Vec<_> = schemes
        .iter()
        .map(|s| json!(format!("{s}://127.0.0.0/8:*")))
        .collect();
    allow.extend(schemes.iter().map(|s| json!(format!("{s}://localhost:*"))));
    grant["allow"] = allow.into();
    Bench::new("netx", grant)
}

fn fields(pairs: &[(&str, &str)]) -> Value {
    let field = |(n, v): &(&str, &str)| Value::Fields(vec![s(n), Value::bytes(v.as_bytes().to_vec())]);
    Value::List(pairs.iter().map(field).collect())
}

fn pairs(v: &Value) -> Vec<(String, String)> {
    let pair = |v: &Value| {
        let pair = v.items().unwrap();
        let value = String::from_utf8_lossy(pair[1].as_bytes().unwrap()).into_owned();
        (pair[0].as_str().unwrap().to_string(), value)
    };
    v.items().unwrap().iter().map(pair).collect()
}

fn request(method: &str, url: &str, headers: &[(&str, &str)], options: Value) -> Value {
    Value::Fields(vec![s(method), s(url), fields(headers), options])
}

/// `request-options` that follow so many redirects.
fn follow(redirects: u32) -> Value {
    Value::some(Value::Fields(vec![
        Value::none(),
        Value::none(),
        Value::none(),
        Value::none(),
        Value::some(Value::u32(redirects)),
        Value::Bool(true),
        Value::none(),
    ]))
}

#[derive(Debug)]
struct Response {
    status: u64,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
}

impl Bench {
    /// The answer's value, or its error's case.
    fn done(&self, function: &str, args: Vec<Value>) -> Result<Option<Value>, String> {
        match self.get(function, args) {
            Value::Case(0, v) => Ok(v.map(|v| *v)),
            Value::Case(1, Some(v)) => Err(self.wit.error_code(&v)),
            other => panic!("{other:?}"),
        }
    }

    /// The words of the error that a call answers.
    fn words(&self, function: &str, args: Vec<Value>) -> String {
        let Value::Case(1, Some(code)) = self.get(function, args) else {
            panic!()
        };
        let Value::Case(_, Some(payload)) = *code else {
            panic!()
        };
        let Value::Case(1, Some(words)) = *payload else {
            panic!()
        };
        words.as_str().unwrap().to_string()
    }

    fn fetch(&self, request: Value, body: Option<&[u8]>) -> Result<Response, String> {
        let body = body.map_or_else(Value::none, |b| Value::some(Value::bytes(b.to_vec())));
        let v = self.done("http-client#fetch", vec![request, body])?.unwrap();
        let v = v.items().unwrap();
        Ok(Response {
            status: v[0].as_u64().unwrap(),
            url: v[1].as_str().unwrap().into(),
            headers: pairs(&v[2]),
            body: v[3].as_bytes().unwrap().to_vec(),
            trailers: pairs(&v[4]),
        })
    }

    fn fetch_url(&self, url: &str) -> Result<Response, String> {
        self.fetch(request("GET", url, &[], Value::none()), None)
    }

    /// Bytes of a stream and what its future says, by its case: its fields, or the error.
    fn drain(&self, stream: &Value, end: &Value) -> (Vec<u8>, Result<Fields, String>) {
        let (Value::Stream(stream), Value::Future(end)) = (stream, end) else {
            panic!()
        };
        let Some(Feed::Source(mut source)) = stream.lock().unwrap().take() else {
            panic!()
        };
        let Some(Settle::Value(end)) = end.lock().unwrap().take() else {
            panic!()
        };
        self.runtime.block_on(async {
            let mut bytes = vec![];
            while let Some(chunk) = poll_fn(|cx| source.poll_next(cx)).await.unwrap() {
                let Chunk::Raw(chunk) = chunk else { panic!() };
                bytes.extend_from_slice((*chunk).as_ref());
            }
            let end = match end.await.unwrap() {
                Value::Case(0, Some(v)) => Ok(pairs(&v)),
                Value::Case(1, Some(v)) => Err(self.wit.error_code(&v)),
                _ => panic!(),
            };
            (bytes, end)
        })
    }
}

/// A stream of these pieces.
fn stream(pieces: &[&[u8]]) -> Value {
    struct Pieces(Vec<Vec<u8>>);
    impl loop_engine::Source<loop_engine::Neutral> for Pieces {
        fn poll_next(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<loop_engine::Result<Option<Chunk<loop_engine::Neutral>>>> {
            let next = self.0.pop().map(|p| Chunk::Raw(Box::new(p)));
            std::task::Poll::Ready(Ok(next))
        }
    }
    crate::value::stream(Pieces(pieces.iter().rev().map(|p| p.to_vec()).collect()))
}
