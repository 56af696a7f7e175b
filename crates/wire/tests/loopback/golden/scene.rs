//! A session between two cores, of which each frame is kept with what it says.

use std::io::IoSlice;

use loop_wire::frame::{HEADER, Header, Out, PREFACE};
use loop_wire::session::{Core, Event, Inbox};
use loop_wire::{Failure, Hello, Interface};
use serde_json::{Value, json};

const INTERFACE: &str =
    "record { name: string, functions: list<string>, types: list<list<u8>>, resources: list<string> }";
const LIMITS: &str =
    "record { message: u64, calls: u32, channels: u32, window: u32, connection: u32, idle: u32 }";
pub const FAILURE: &str = "record { code: enum { provider, not-granted, no-such-interface, no-such-function, version-mismatch, \
     bad-value, bad-handle, deadline-exceeded, cancelled, provider-gone, overloaded, protocol, guest-trap, \
     unauthenticated }, retryable: bool, message: string, fields: list<tuple<string, string>> }";
pub const LINK: &str = "record { number: u32, name: string, grant: string, config: string }";

pub fn hello_type() -> String {
    format!(
        "record {{ protocol: u32, software: string, identity: string, token: list<u8>, instance: string, \
         generation: u64, exports: list<{INTERFACE}>, imports: list<{INTERFACE}>, limits: {LIMITS}, \
         config-schema: string, transports: list<string>, resume: list<u8> }}"
    )
}

/// What a payload says, in order: a name, and a WIT type with a value, or `bytes` in hex.
pub type Says = Vec<(&'static str, String, Value)>;

pub fn says(name: &'static str, wit: impl Into<String>, value: Value) -> Says {
    vec![(name, wit.into(), value)]
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn failure_value(f: &Failure) -> Value {
    json!({"code": f.code.word(), "retryable": f.retryable, "message": f.message, "fields": f.fields})
}

pub fn hello_value(h: &Hello) -> Value {
    let interfaces = |all: &[Interface]| {
        let one = |i: &Interface| json!({"name": i.name, "functions": i.functions, "types": i.types, "resources": i.resources});
        all.iter().map(one).collect::<Vec<_>>()
    };
    let l = &h.limits;
    let limits = json!({
        "message": l.message.to_string(), "calls": l.calls, "channels": l.channels, "window": l.window,
        "connection": l.connection, "idle": l.idle,
    });
    json!({
        "protocol": h.protocol, "software": h.software, "identity": h.identity, "token": h.token,
        "instance": h.instance, "generation": h.generation.to_string(), "exports": interfaces(&h.exports),
        "imports": interfaces(&h.imports), "limits": limits, "config-schema": h.config_schema,
        "transports": h.transports, "resume": h.resume,
    })
}

/// One end of the session.
pub struct Side {
    pub core: Core<u32>,
    pub inbox: Inbox,
}

impl Side {
    /// All that it has to say now.
    pub fn say(&mut self) -> Vec<u8> {
        let (mut out, mut all) = (Out::default(), vec![]);
        loop {
            self.core.take(&mut out);
            if out.is_empty() {
                return all;
            }
            let mut slices = [IoSlice::new(&[]); 8];
            let n = out.slices(&mut slices);
            let before = all.len();
            slices[..n].iter().for_each(|s| all.extend_from_slice(s));
            out.advance(all.len() - before);
        }
    }

    pub fn hear(&mut self, bytes: &[u8]) -> Option<Event<u32>> {
        self.inbox.feed(bytes);
        let event = self.core.event(&mut self.inbox).expect("a frame that fits");
        assert!(
            event.is_none() || self.core.event(&mut self.inbox).unwrap().is_none(),
            "one frame has one event"
        );
        event
    }
}

#[derive(Clone, Copy)]
pub enum From {
    Caller,
    Provider,
}

/// The session so far, and the frames of it.
pub struct Scene {
    pub caller: Side,
    pub provider: Side,
    pub frames: Vec<Value>,
}

impl Scene {
    /// What a side has to say is one frame, which says that. The other side reads it; what comes of it.
    pub fn frame(&mut self, from: From, name: &str, says: Says) -> Option<Event<u32>> {
        let bytes = match from {
            From::Caller => self.caller.say(),
            From::Provider => self.provider.say(),
        };
        let bytes = bytes.strip_prefix(&PREFACE).unwrap_or(&bytes).to_vec();
        self.made(from, name, says, &bytes)
    }

    /// The same of a frame that no side says just so.
    pub fn made(&mut self, from: From, name: &str, says: Says, bytes: &[u8]) -> Option<Event<u32>> {
        self.publish(from, name, says, bytes);
        match from {
            From::Caller => self.provider.hear(bytes),
            From::Provider => self.caller.hear(bytes),
        }
    }

    /// Keeps a frame that says that.
    pub fn publish(&mut self, from: From, name: &str, says: Says, bytes: &[u8]) {
        let header = Header::read(*bytes.first_chunk().expect("a frame"));
        assert_eq!(bytes.len(), HEADER + header.length, "{name} is one frame");
        let says: Vec<_> = says
            .into_iter()
            .map(|(name, wit, value)| match wit.as_str() {
                "bytes" => json!({"name": name, "bytes": value}),
                _ => json!({"name": name, "type": wit, "value": value}),
            })
            .collect();
        let from = match from {
            From::Caller => "caller",
            From::Provider => "provider",
        };
        self.frames.push(json!({
            "name": name, "from": from, "kind": header.kind, "stream": header.stream, "says": says,
            "bytes": hex(bytes),
        }));
    }
}

pub fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    [&Header { length, kind, stream }.bytes()[..], payload].concat()
}
