//! The records of the handshake and of links.

use crate::codec::{Cursor, Decode, Encode, Invalid};
use crate::failure::{Code, Failure};

/// The version of the session protocol.
pub const PROTOCOL: u32 = 1;
/// Among the transports of a HELLO: arenas are taken, and passed, over this connection.
pub(crate) const SHM: &str = "shm:";
/// The same: a relay to native streams is between, and is to be told by DONE that a call is over.
const RELAYED: &str = "done:";

/// A struct that is a WIT record with the same fields.
macro_rules! record {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $ty,)* }

        impl Encode for $name {
            fn encode(&self, out: &mut Vec<u8>) {
                $(self.$field.encode(out);)*
            }
        }

        impl Decode for $name {
            const LEAST: usize = 0 $(+ <$ty as Decode>::LEAST)*;
            fn decode(from: &mut Cursor<'_>) -> Result<Self, Invalid> {
                Ok($name { $($field: Decode::decode(from)?,)* })
            }
        }
    };
}

record! {
    /// What each side says of itself when a session begins.
    pub struct Hello {
        pub protocol: u32,
        /// `loop-kit/0.1.0`.
        pub software: String,
        /// Who this peer says it is.
        pub identity: String,
        /// Proof for the acceptor; empty: none.
        pub token: Vec<u8>,
        /// This run of the peer.
        pub instance: String,
        /// Of the provider; goes up with every swap.
        pub generation: u64,
        /// What may be called here.
        pub exports: Vec<Interface>,
        /// What this peer means to call there.
        pub imports: Vec<Interface>,
        pub limits: Limits,
        /// JSON Schema of what a link may configure; empty: there is none.
        pub config_schema: String,
        /// Further ways to reach this peer, as addresses.
        pub transports: Vec<String>,
        pub resume: Vec<u8>,
    }
}

record! {
    /// An interface as a peer offers or wants it.
    pub struct Interface {
        /// `acme:kv/store@0.1.0`.
        pub name: String,
        pub functions: Vec<String>,
        /// SHA-256 of the type of each function in canonical form, in the same order; empty: not known.
        pub types: Vec<Vec<u8>>,
        pub resources: Vec<String>,
    }
}

record! {
    /// What a peer is willing to take.
    pub struct Limits {
        /// Bytes of one message.
        pub message: u64,
        /// Calls at once.
        pub calls: u32,
        /// Streams and futures of one call.
        pub channels: u32,
        /// Bytes of credit that a channel begins with.
        pub window: u32,
        /// Bytes of credit that the connection begins with.
        pub connection: u32,
        /// Milliseconds without a frame after which the connection is given up.
        pub idle: u32,
    }
}

record! {
    /// One component's import of one interface, with its grant.
    pub struct Link {
        pub number: u32,
        /// `component/interface`, for messages.
        pub name: String,
        /// JSON.
        pub grant: String,
        /// JSON.
        pub config: String,
    }
}

impl Interface {
    /// Where a function stands.
    pub fn position(&self, function: &str) -> Option<usize> {
        self.functions.iter().position(|known| known == function)
    }

    /// Whether the function that stands at `at` is known to be of another type than `wanted` is the digest of.
    pub fn differs(&self, at: usize, wanted: Option<&Vec<u8>>) -> bool {
        let known = self.types.get(at).filter(|known| !known.is_empty());
        let wanted = wanted.filter(|wanted| !wanted.is_empty());
        known.zip(wanted).is_some_and(|(known, wanted)| known != wanted)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            message: (64 << 20) + (64 << 10),
            calls: 1024,
            channels: 256,
            window: 1 << 20,
            connection: 16 << 20,
            idle: 30_000,
        }
    }
}

impl Default for Hello {
    fn default() -> Self {
        Hello {
            protocol: PROTOCOL,
            software: concat!("loop-kit/", env!("CARGO_PKG_VERSION")).into(),
            identity: String::new(),
            token: vec![],
            instance: String::new(),
            generation: 0,
            exports: vec![],
            imports: vec![],
            limits: Limits::default(),
            config_schema: String::new(),
            transports: vec![],
            resume: vec![],
        }
    }
}

impl Hello {
    /// Whether `theirs` offers all that this side means to call, in versions and with contracts that fit.
    pub fn satisfied_by(&self, theirs: &Hello) -> Result<(), Failure> {
        if self.protocol != theirs.protocol {
            return Err(Failure::new(
                Code::VersionMismatch,
                "the peers speak other versions of the session protocol",
            )
            .with("ours", self.protocol)
            .with("theirs", theirs.protocol));
        }
        self.imports
            .iter()
            .try_for_each(|wanted| theirs.offers(wanted).map(drop))
    }

    /// The number of the first function of the exported interface that serves `wanted`, and that interface: the one of
    /// that very name, else the first whose version serves it. All functions that are wanted must be there, and be of
    /// the type that is wanted.
    pub fn offers(&self, wanted: &Interface) -> Result<(u32, &Interface), Failure> {
        let fits = || self.exports.iter().filter(|o| serves(&o.name, &wanted.name));
        let offered = fits().find(|o| o.name == wanted.name).or_else(|| fits().next());
        let Some(offered) = offered else {
            return Err(self.lacks(wanted));
        };
        let (mut missing, mut others) = (vec![], vec![]);
        for (at, name) in wanted.functions.iter().enumerate() {
            match offered.position(name) {
                None => missing.push(name.as_str()),
                Some(there) if offered.differs(there, wanted.types.get(at)) => {
                    others.push((name.as_str(), at, there));
                }
                Some(_) => {}
            }
        }
        let which = |why: String| {
            format!(
                "{} is wanted, {} is offered, which {why}",
                wanted.name, offered.name
            )
        };
        if !missing.is_empty() {
            let message = which(format!("lacks {}", missing.join(", ")));
            return Err(mismatch(message, wanted, &wanted.name, &offered.name));
        }
        if let [(_, ours, theirs), ..] = others[..] {
            let names: Vec<_> = others.iter().map(|(name, ..)| *name).collect();
            let message = which(format!(
                "has other types of {}: the WIT differs",
                names.join(", ")
            ));
            let said = |digest: &[u8]| digest.iter().map(|b| format!("{b:02x}")).collect::<String>();
            let (ours, theirs) = (said(&wanted.types[ours]), said(&offered.types[theirs]));
            return Err(mismatch(message, wanted, ours, theirs));
        }
        let before = self.exports.iter().take_while(|o| !std::ptr::eq(*o, offered));
        Ok((before.map(|o| o.functions.len() as u32).sum(), offered))
    }

    /// What whoever wants an interface is told that is not here.
    fn lacks(&self, wanted: &Interface) -> Failure {
        if let Some(near) = self.exports.iter().find(|o| bare(&o.name) == bare(&wanted.name)) {
            let message = format!("{} is wanted, {} is offered", wanted.name, near.name);
            return mismatch(message, wanted, &wanted.name, &near.name);
        }
        let offered: Vec<_> = self.exports.iter().map(|i| i.name.as_str()).collect();
        let message = format!("{} is not offered by {}", wanted.name, self.named());
        let failure = Failure::new(Code::NoSuchInterface, message).with("interface", &wanted.name);
        failure.with("offered", offered.join(", "))
    }

    /// Whether memory may be shared.
    pub(crate) fn shares(&self) -> bool {
        self.transports.iter().any(|t| t == SHM)
    }

    /// Says that memory may be shared: the connection passes descriptors on.
    pub fn share(&mut self) {
        if !self.shares() {
            self.transports.push(SHM.into());
        }
    }

    /// Whether a relay asks to be told when calls are over.
    pub(crate) fn is_relayed(&self) -> bool {
        self.transports.iter().any(|t| t == RELAYED)
    }

    /// Asks for that.
    pub(crate) fn relayed(&mut self) {
        if !self.is_relayed() {
            self.transports.push(RELAYED.into());
        }
    }

    fn named(&self) -> &str {
        match self.identity.as_str() {
            "" => "the peer",
            identity => identity,
        }
    }
}

fn mismatch(message: String, wanted: &Interface, ours: impl ToString, theirs: impl ToString) -> Failure {
    let failure = Failure::new(Code::VersionMismatch, message).with("interface", &wanted.name);
    failure.with("ours", ours).with("theirs", theirs)
}

fn bare(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

/// Whether an interface offered as `offered` serves one wanted as `wanted`: a name without version fits any, and
/// versions fit as semver says.
pub fn serves(offered: &str, wanted: &str) -> bool {
    if bare(offered) != bare(wanted) {
        return false;
    }
    let (Some((_, offered)), Some((_, wanted))) = (offered.split_once('@'), wanted.split_once('@')) else {
        return true;
    };
    if offered == wanted {
        return true;
    }
    let parts = |v: &str| -> Option<[u64; 3]> {
        // a pre-release fits itself alone
        let v = v.split('+').next()?;
        let mut numbers = v.split('.').map(|n| n.parse().ok());
        let parts = [numbers.next()??, numbers.next()??, numbers.next()??];
        numbers.next().is_none().then_some(parts)
    };
    match (parts(offered), parts(wanted)) {
        (Some(o), Some(w)) => {
            let fixed = w.iter().position(|n| *n > 0).unwrap_or(2);
            o[..=fixed] == w[..=fixed] && o[fixed + 1..] >= w[fixed + 1..]
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_fit_as_semver_says() {
        for (offered, wanted, fits) in [
            ("a:b/c@0.1.2", "a:b/c@0.1.0", true),
            ("a:b/c@0.1.0", "a:b/c@0.1.2", false),
            ("a:b/c@0.2.0", "a:b/c@0.1.0", false),
            ("a:b/c@1.2.0", "a:b/c@1.0.5", true),
            ("a:b/c@2.0.0", "a:b/c@1.0.0", false),
            ("a:b/c@0.0.2", "a:b/c@0.0.1", false),
            ("a:b/c", "a:b/c@0.0.1", true),
            ("a:b/c@0.1.0", "a:b/c", true),
            ("a:b/d@0.1.0", "a:b/c@0.1.0", false),
            ("a:b/c@0.1.0-dev", "a:b/c@0.1.0-dev", true),
            ("a:b/c@0.1.0-dev", "a:b/c@0.1.0", false),
        ] {
            assert_eq!(serves(offered, wanted), fits, "{offered} for {wanted}");
        }
    }

    /// `types`: what stands for the digests; 0: not known.
    fn interface(name: &str, types: &[u8], functions: &[&str]) -> Interface {
        Interface {
            name: name.into(),
            functions: functions.iter().map(|f| (*f).into()).collect(),
            types: types.iter().map(|t| vec![*t; usize::from(*t > 0) * 32]).collect(),
            resources: vec![],
        }
    }

    #[test]
    fn a_later_version_may_have_more_and_not_less() {
        let hello = Hello {
            exports: vec![
                interface("a:b/other@1.0.0", &[1, 1], &["x", "y"]),
                interface("a:b/c@0.1.2", &[2, 3], &["new", "get"]),
                interface("a:b/c@0.1.1", &[4], &["get"]),
            ],
            ..Hello::default()
        };
        let found = |wanted: &Interface| hello.offers(wanted).map(|(n, i)| (n, i.name.clone()));
        let of = |n: u32, name: &str| Ok((n, name.to_owned()));
        for known in [&[3][..], &[0], &[]] {
            let older = interface("a:b/c@0.1.0", known, &["get"]);
            assert_eq!(found(&older), of(2, "a:b/c@0.1.2"));
        }
        assert_eq!(
            found(&interface("a:b/c@0.1.1", &[4], &["get"])),
            of(4, "a:b/c@0.1.1")
        );
        for (wanted, why) in [
            (interface("a:b/c@0.1.1", &[3], &["get"]), "has other types of get"),
            (interface("a:b/c@0.1.0", &[4], &["get"]), "has other types of get"),
            (interface("a:b/c@0.1.0", &[9, 3], &["put", "get"]), "lacks put"),
            (interface("a:b/c@0.2.0", &[3], &["get"]), "a:b/c@0.1.2 is offered"),
        ] {
            let failure = hello.offers(&wanted).expect_err(why);
            assert_eq!(failure.code, Code::VersionMismatch);
            assert!(failure.message.contains(why), "{failure}");
            assert_eq!(failure.field("interface"), Some(&*wanted.name));
        }
        let failure = hello
            .offers(&interface("a:b/d@0.1.0", &[], &[]))
            .expect_err("it is not there");
        assert_eq!(failure.code, Code::NoSuchInterface);
    }
}
