//! wRPC with a peer that speaks by the byte.

use super::*;

/// `acme:kv/store`, `get`, then one frame of the root with the parameters.
const ASKED: &[u8] = b"\x00\x0dacme:kv/store\x03get\x00\x03\x02hi";

fn peer(answer: &'static [u8]) -> (u16, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let told = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut told = vec![0; ASKED.len()];
        stream.read_exact(&mut told).unwrap();
        stream.write_all(answer).unwrap();
        told
    });
    (port, told)
}

fn invoke(port: u16, grant: Json) -> Result<Vec<u8>, usize> {
    let mut grant = grant;
    grant["wrpc"] = json!({"kv": {"address": format!("tcp://127.0.0.1:{port}")}});
    let bench = Bench::new("netx", grant);
    let args = vec![
        s("kv"),
        s("acme:kv/store"),
        s("get"),
        Value::bytes(b"\x02hi".to_vec()),
    ];
    match bench.get("wrpc#invoke", args) {
        Value::Case(0, Some(v)) => Ok(v.as_bytes().unwrap().to_vec()),
        Value::Case(1, Some(v)) => match v.items().unwrap()[0] {
            Value::Case(reason, None) => Err(reason),
            _ => panic!(),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn bytes_go_there_and_come_back() {
    let (port, told) = peer(b"\x00\x04\x03yes");
    assert_eq!(invoke(port, json!({})).unwrap(), b"\x03yes");
    assert_eq!(told.join().unwrap(), ASKED);
}

#[test]
fn what_is_too_long_or_nothing_is_an_error() {
    let (port, _) = peer(b"\x00\x04\x03yes");
    // a frame above the bound is refused as such, before any of it is held
    assert_eq!(invoke(port, json!({"max-body": 3})), Err(4));
    let (port, _) = peer(b"");
    assert_eq!(invoke(port, json!({})), Err(1));
}
