//! Passes a host's calls of `loop:pkg/resolver` on: the host links this to a provider as it links any component, in
//! whatever placement that is.

wit_bindgen::generate!({
    path: ["../../python/loop_kit/capabilities/pkg/wit", "wit"],
    world: "loop:pkg-relay/relay",
    generate_all,
});

use exports::loop_::pkg::resolver as told;
use loop_::pkg::resolver as provider;

/// What is imported and what is exported are types of their own here; these are equal, name for name.
trait Same<T> {
    fn same(self) -> T;
}

impl<A: Same<B>, B> Same<Vec<B>> for Vec<A> {
    fn same(self) -> Vec<B> {
        self.into_iter().map(Same::same).collect()
    }
}

impl<A: Same<B>, B> Same<Option<B>> for Option<A> {
    fn same(self) -> Option<B> {
        self.map(Same::same)
    }
}

impl<A: Same<B>, B> Same<Result<B, told::Error>> for Result<A, provider::Error> {
    fn same(self) -> Result<B, told::Error> {
        self.map(Same::same).map_err(Same::same)
    }
}

macro_rules! plain {
    ($($type:ty),*) => { $(impl Same<$type> for $type { fn same(self) -> $type { self } })* };
}

macro_rules! record {
    ($($from:ty => $to:path { $($field:ident),* })*) => {
        $(impl Same<$to> for $from {
            fn same(self) -> $to {
                $to { $($field: self.$field.same()),* }
            }
        })*
    };
}

macro_rules! cases {
    ($($name:ident { $($case:ident $(($value:ident))?),* })*) => {
        $(impl Same<told::$name> for provider::$name {
            fn same(self) -> told::$name {
                match self { $(Self::$case $(($value))? => told::$name::$case $(($value))?),* }
            }
        })*
    };
}

plain!(bool, u8, u32, u64, String, (String, String));

record! {
    told::Platform => provider::Platform { os, arch, libc, python }
    told::Asset => provider::Asset { file, url, headers, checksum, size }
    told::Entry => provider::Entry { path, executable, content }
    provider::Asset => told::Asset { file, url, headers, checksum, size }
    provider::Release => told::Release { version, prerelease, yanked }
    provider::Plan => told::Plan { archive, strip, into, only, metadata, layout }
    provider::Need => told::Need { name, real, range, optional }
    provider::Bin => told::Bin { name, path, runner }
    provider::Asked => told::Asked { name, range }
}

cases! {
    Error {
        NotFound(words), NoPlatform(words), Unreachable(words), Denied(words), Protocol(words), Invalid(words)
    }
    Archive { Plain, Tar, Zip }
    Layout { Alone, Flat, Nested }
    Runner { Native, Node, Python, Cargo, Go }
}

struct Relay;

impl told::Guest for Relay {
    fn versions(name: String) -> Result<Vec<told::Release>, told::Error> {
        provider::versions(&name).same()
    }

    fn resolve(name: String, ranges: Vec<String>) -> Result<Vec<String>, told::Error> {
        provider::resolve(&name, &ranges).same()
    }

    fn artifact(name: String, version: String, platform: told::Platform) -> Result<told::Asset, told::Error> {
        provider::artifact(&name, &version, &platform.same()).same()
    }

    fn verify(
        name: String,
        version: String,
        asset: told::Asset,
        digests: Vec<told::Digest>,
    ) -> Result<bool, told::Error> {
        provider::verify(&name, &version, &asset.same(), &digests).same()
    }

    fn metadata(
        name: String,
        version: String,
        asset: told::Asset,
    ) -> Result<Option<told::Asset>, told::Error> {
        provider::metadata(&name, &version, &asset.same()).same()
    }

    fn unpack(name: String, version: String, asset: told::Asset) -> Result<told::Plan, told::Error> {
        provider::unpack(&name, &version, &asset.same()).same()
    }

    fn needs(
        name: String,
        version: String,
        platform: told::Platform,
        entries: Vec<told::Entry>,
    ) -> Result<Vec<told::Need>, told::Error> {
        provider::needs(&name, &version, &platform.same(), &entries.same()).same()
    }

    fn bins(
        name: String,
        version: String,
        platform: told::Platform,
        entries: Vec<told::Entry>,
    ) -> Result<Vec<told::Bin>, told::Error> {
        provider::bins(&name, &version, &platform.same(), &entries.same()).same()
    }

    fn looks_at() -> Vec<String> {
        provider::looks_at()
    }

    fn detect(file: String, content: Vec<u8>) -> Result<Vec<told::Asked>, told::Error> {
        provider::detect(&file, &content).same()
    }
}

export!(Relay);
