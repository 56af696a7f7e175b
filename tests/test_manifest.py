"""`loop.toml`: what it may say, what it becomes, and how it is refused."""

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

import loop_kit.limits
from loop_kit import manifest
from loop_kit._units import parse_duration, parse_size
from loop_kit.manifest import (
    Bind,
    Component,
    Dir,
    Limits,
    Link,
    Manifest,
    ManifestError,
    Provider,
    Secret,
    Serve,
    Wasi,
    loads,
)
from tests.manifests import problems, read

FULL = """\
[workspace]
name = "site"

[components.site]
path = "build/site.wasm"
build = "npm run build"
run = "serve"
limits = { memory = "64MiB", deadline = "250ms", instances = 4 }
serve = { addr = "[::1]:0" }
args = ["-v", { env = "TOKEN" }]
env = { MODE = "dev", KEY = { file = "secret/key" } }

[components.site.imports]
"loop:fsx" = { provider = "files", grant = { roots = { docs = { path = "../docs" } }, max-read = "1MiB" } }
"acme:kv/store@1.0.0" = { provider = "cache" }

[components.site.wasi]
dirs = [{ host = "data", guest = "/data", mode = "rw" }, { host = "/srv", guest = "/srv" }]
env = ["LANG"]
net = ["127.0.0.1:5432"]
stdio = true

[components.cache]
path = "cache.wasm"
build = ["cargo", "build"]

[providers.files]
use = "builtin:fsx"

[providers.cache]
use = "component:cache"

[providers.mine]
use = "python:acme.kv:Store"
trusted = true
config = { password = { env = "PW" }, retry = [1, { file = "p" }], log = { file = "x", level = 1 } }

[providers.vendored]
use = "component:vendor/x.wasm"

[links]
"loop:core" = { provider = "mine", grant.log = { level = "info", targets = ["site"], max-record = "1kB" } }
"acme:any" = { provider = "mine", grant = { anything = [1, 2.5, { a = true }] } }

[limits]
memory = "1GB"
cpu = 1.5
concurrent_calls = 64
"""


def test_everything_it_may_say() -> None:
    parsed = read(FULL)
    ws = Path("/team/ws")
    assert parsed == Manifest(
        parsed.source,
        "site",
        {
            "site": Component(
                "site",
                ws / "build/site.wasm",
                build="npm run build",
                run="serve",
                serve=Serve("[::1]:0"),
                args=("-v", Secret(env="TOKEN")),
                env={"MODE": "dev", "KEY": Secret(file=ws / "secret/key")},
                imports={
                    "loop:fsx": Link(
                        "loop:fsx",
                        "files",
                        {
                            "roots": {"docs": {"mode": "ro", "path": Path("/team/docs")}},
                            "max-read": 1 << 20,
                        },
                        ("components", "site", "imports", "loop:fsx"),
                    ),
                    "acme:kv/store@1.0.0": Link(
                        "acme:kv/store@1.0.0",
                        "cache",
                        keys=("components", "site", "imports", "acme:kv/store@1.0.0"),
                    ),
                },
                limits=Limits(memory=64 << 20, deadline=0.25, cpu=1.5, concurrent_calls=64, instances=4),
                wasi=Wasi(
                    (Dir(ws / "data", "/data", "rw"), Dir(Path("/srv"), "/srv")),
                    ("LANG",),
                    ("127.0.0.1:5432",),
                    True,
                ),
            ),
            "cache": Component(
                "cache",
                ws / "cache.wasm",
                build=("cargo", "build"),
                limits=Limits(memory=10**9, cpu=1.5, concurrent_calls=64),
            ),
        },
        {
            "files": Provider("files", "builtin:fsx", "builtin", "fsx"),
            "cache": Provider("cache", "component:cache", "component", "cache"),
            "mine": Provider(
                "mine",
                "python:acme.kv:Store",
                "python",
                "acme.kv:Store",
                config={
                    "password": Secret(env="PW"),
                    "retry": [1, Secret(file=ws / "p")],
                    "log": {"file": "x", "level": 1},
                },
                trusted=True,
            ),
            "vendored": Provider(
                "vendored", "component:vendor/x.wasm", "component", "vendor/x.wasm", ws / "vendor/x.wasm"
            ),
        },
        {
            "loop:core": Link(
                "loop:core",
                "mine",
                {"log": {"level": "info", "targets": ("site",), "max-record": 1000}},
                ("links", "loop:core"),
            ),
            "acme:any": Link("acme:any", "mine", {"anything": [1, 2.5, {"a": True}]}, ("links", "acme:any")),
        },
        Limits(memory=10**9, cpu=1.5, concurrent_calls=64),
    )


def test_the_smallest_is_empty() -> None:
    assert read("").name == "ws"
    assert read("").components == {}


def test_wasi_shows_nothing_unless_named() -> None:
    assert read('[components.a]\npath = "a"').components["a"].wasi == Wasi((), (), (), False)


GOOD = '[components.a]\npath = "a.wasm"\n'
USE = "[providers.f]\nuse = "
FSX = '[providers.files]\nuse = "builtin:fsx"\n[links]\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            GOOD + 'limits = { memry = "64MiB" }',
            'loop.toml:3:12: components.a.limits: unknown key "memry" (did you mean "memory"?)',
        ),
        ("[componets.a]", 'loop.toml:1:2: unknown key "componets" (did you mean "components"?)'),
        (
            "[components.a]",
            'loop.toml:1:13: components.a: missing key "path" (The .wasm file; where there is a',
        ),
        ("components = 1", "loop.toml:1:14: components: expected a table, got the integer 1"),
        (
            '[components."a b"]\npath="a"',
            "loop.toml:1:13: components: expected a name of letters, digits, - and _",
        ),
        (GOOD + "path2 = 1", "unknown key"),
        (GOOD + "path = 1", "loop.toml:3:9: not valid TOML: cannot overwrite a value"),
        ("[components.a]\npath = ''", "loop.toml:2:8: components.a.path: expected a path"),
        (
            "[components.a]\noci = 'x'",
            'missing key "path" (The .wasm file; where there is a build, its output. Or an artifact',
        ),
        (GOOD + 'run = "sevre"', 'a.run: expected "serve" or "run", got "sevre" (did you mean "serve"?)'),
        (GOOD + "build = []", "components.a.build: must have at least 1 element"),
        (GOOD + 'build = " "', "components.a.build: expected a command"),
        (
            GOOD + 'serve.addr = "8080"',
            'components.a.serve.addr: expected an address such as "127.0.0.1:8080"',
        ),
        (GOOD + 'serve.addr = "a:65536"', "components.a.serve.addr: expected an address"),
        (GOOD + "args = [1]", "components.a.args[0]: expected a string or a secret"),
        (GOOD + "env = { A = {} }", 'components.a.env.A: a secret has either "env" or "file"'),
        (GOOD + 'env = { A = { env = "B", file = "c" } }', 'a secret has either "env" or "file"'),
        (GOOD + 'env = { "A=" = "" }', "components.a.env: expected the name of an environment variable"),
        (GOOD + "limits.memory = 0", "components.a.limits.memory: a size must be from 1"),
        (GOOD + 'limits.memory = "64 mb"', 'limits.memory: expected a size such as "64MiB"'),
        (GOOD + "limits.memory = true", 'expected a size such as "64MiB" or a number of bytes, got true'),
        (GOOD + "limits.deadline = inf", "limits.deadline: a duration must be above 0"),
        (GOOD + f"limits.cpu = {'9' * 4000}", "limits.cpu: a duration must be above 0"),
        (GOOD + "limits.fuel = 1.5", "limits.fuel: expected an integer, got the number 1.5"),
        (GOOD + "limits.instances = 0", "limits.instances: must be from 1 to 100000"),
        (GOOD + 'limits.instances = "per call"', '(did you mean "per-call"?)'),
        (GOOD + 'wasi.net = ["example.com"]', "components.a.wasi.net[0]: expected an address"),
        (GOOD + 'wasi.net = ["a:0"]', "components.a.wasi.net[0]: expected an address"),
        (
            GOOD + 'wasi.dirs = [{ host = "a", guest = "/", mode = "rx" }]',
            'wasi.dirs[0].mode: expected "ro" or "rw"',
        ),
        (
            GOOD + 'wasi.dirs = [{ host = "a", guest = "/" },\n  { host = "b", guest = "/" }]',
            'loop.toml:4:3: components.a.wasi.dirs[1]: the guest path "/" is taken',
        ),
        (GOOD + 'imports."loop fsx".provider = "x"', "components.a.imports: expected an import such as"),
        (GOOD + 'imports."a:b".provider = "x"', 'components.a.imports."a:b": there is no provider "x" (add'),
        (
            GOOD + '[links]\n"loop:core".provider = "core"',
            'loop.toml:4:24: links."loop:core": there is no provider "core" (add [providers.core] with use',
        ),
        (
            FSX + '"loop:fsx" = { provider = "fils" }',
            'loop.toml:4:27: links."loop:fsx": there is no provider "fils" (did you mean "files"?)',
        ),
        (
            FSX + '"loop:fsx/files@0.1.0".grant.roots.d = { path = "d", mode = "w" }',
            '.grant.roots.d.mode: expected "ro" or "rw"',
        ),
        (
            FSX + '"loop:fsx".grant.rots = {}',
            'links."loop:fsx".grant: unknown key "rots" (did you mean "roots"?)',
        ),
        (FSX + '"loop:fsx".grant.max-read = 0', 'links."loop:fsx".grant.max-read: a size must be from 1'),
        (
            FSX + '"loop:fsx".grant.max-entries = "9"',
            ".grant.max-entries: expected an integer, got the string",
        ),
        (FSX + '"loop:fsx".grant.max_read = 1', '.grant: unknown key "max_read" (did you mean "max-read"?)'),
        (FSX + '"loop:core".grant.level = "info"', 'links."loop:core".grant: unknown key "level"'),
        (FSX + '"loop:core".grant.log.level = "wran"', '.grant.log.level: expected "trace", "debug", "info"'),
        (
            FSX + '"loop:core/log".grant.log.targets = "a"',
            ".grant.log.targets: expected an array, got the st",
        ),
        (
            FSX + '"loop:core".grant.log.targets = [1]',
            ".grant.log.targets[0]: expected a string, got the int",
        ),
        (
            FSX + '"loop:core".grant.log.max-record = "1"',
            '.grant.log.max-record: expected a size such as "64',
        ),
        (USE + '"builtin:fxs"', 'there is no builtin "fxs" (did you mean "fsx"?)'),
        (USE + '"fsx"', '(did you mean "builtin:fsx"?)'),
        (USE + '"x/y.wasm"', '(did you mean "component:x/y.wasm"?)'),
        (USE + '"pyhton:a:B"', '(did you mean "python"?)'),
        (
            USE + '"python:a"\ntrusted = true',
            'providers.f.use: expected "python:module:Class"',
        ),
        (USE + '"component:"', 'expected "component:" and a name or a path'),
        (GOOD + USE + '"component:b"', 'providers.f: there is no component "b"'),
        (
            USE + '"python:a:B"',
            "loop.toml:2:7: providers.f: runs inside the host with all its rights, so it must be tru",
        ),
        (USE + '"python:a:B"\ntrusted = false', "so it must be trusted"),
        (USE + '"python:loop_kit.capabilities_too:B"', "so it must be trusted"),
        ("[workspace]\nname = 'a/b'", "workspace.name: expected a name"),
        (
            "[links]\nloop:fsx = {}",
            "loop.toml:2:5: not valid TOML: expected '=' after a key in a key/value pair (a key with a colon",
        ),
        ("a = [", "loop.toml:1:6: not valid TOML: invalid value"),
        ("a = " + "[" * 5000, "loop.toml: nested too deeply"),
        ("a = " + "1" * 5000, "loop.toml: not valid TOML: Exceeds the limit"),
        ("[providers]\na" + ".a" * 2000 + " = 1", 'providers.a: unknown key "a"'),
    ],
)
def test_what_is_refused(text: str, expected: str) -> None:
    assert expected in "\n".join(problems(text))


def test_what_ships_with_loop_kit_needs_no_trust_of_its_own() -> None:
    (provider,) = read(USE + '"python:loop_kit.capabilities.fsx:Files"').providers.values()
    assert (provider.shipped, provider.sandboxed, provider.trusted) == (True, False, False)


def test_every_problem_is_reported_in_the_order_of_the_file() -> None:
    text = (
        GOOD.replace("path", "pth")
        + 'run = 1\n[providers.p]\nuse = "python:x:Y"\n[links]\n"a:b".provider = "q"\n'
    )
    with pytest.raises(ManifestError) as caught:
        read(text)
    error = caught.value
    assert [(p.line, p.key) for p in error.problems] == [
        (1, "components.a"),
        (2, "components.a"),
        (3, "components.a.run"),
        (5, "providers.p"),
        (7, 'links."a:b"'),
    ]
    assert (error.path, error.line, error.column, error.key) == ("loop.toml", 1, 13, "components.a")
    assert error.hint == error.problems[0].hint
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_components_that_need_each_other() -> None:
    def ring(*names: str) -> str:
        text = ""
        for name, following in zip(names, (*names[1:], names[0]), strict=True):
            text += f'[components.{name}]\npath = "x"\nimports."a:b".provider = "{following}"\n'
            text += f'[providers.{name}]\nuse = "component:{name}"\n'
        return text

    assert "components need each other to start: a → b → c → a" in problems(ring("a", "b", "c"))[0]
    assert "components need each other to start: a → a" in problems(ring("a"))[0]
    many = [f"c{i}" for i in range(2000)]
    assert len(problems(ring(*many))) == 1
    diamond = ring("a").replace('"a:b".provider = "a"', '"a:b".provider = "b"\nimports."a:c".provider = "b"')
    assert (
        len(read(diamond + '[components.b]\npath = "b"\n[providers.b]\nuse = "component:b"').components) == 2
    )


def test_limits_have_the_names_of_the_host() -> None:
    names = [[field.name for field in dataclasses.fields(cls)] for cls in (Limits, loop_kit.limits.Limits)]
    assert names[0] == names[1]


def linked(keys: dict[str, list[str]], name: str) -> Link | None:
    text = '[providers.own]\nuse = "builtin:core"\n[providers.all]\nuse = "builtin:core"\n' + GOOD
    text += "[components.a.imports]\n" + "".join(f'"{key}".provider = "own"\n' for key in keys.get("own", []))
    text += "[links]\n" + "".join(f'"{key}".provider = "all"\n' for key in keys.get("all", []))
    return read(text).link_for("a", name)


@pytest.mark.parametrize(
    ("own", "everywhere", "expected"),
    [
        (["a:b/c@1.0.0", "a:b/c", "a:b@1.0.0", "a:b"], [], "a:b/c@1.0.0"),
        (["a:b/c", "a:b"], [], "a:b/c"),
        (["a:b@1.0.0", "a:b"], [], "a:b@1.0.0"),
        (["a:b"], ["a:b/c@1.0.0"], "a:b"),
        (["a:x", "a:b/d", "a:b/c@2.0.0"], ["a:b/c"], "a:b/c"),
        (["a:b/c@2.0.0", "a:b@2.0.0", "a", "b", "c"], ["a:bb"], None),
    ],
)
def test_the_most_specific_key_links(own: list[str], everywhere: list[str], expected: str | None) -> None:
    link = linked({"own": own, "all": everywhere}, "a:b/c@1.0.0")
    assert (link and link.name) == expected
    if link is not None:
        where = "components.a.imports" if expected in own else "links"
        assert link.reason.startswith(f'"{expected}" in [{where}] matches it')
        assert link.provider == ("own" if expected in own else "all")


def test_two_keys_of_which_neither_is_more_specific() -> None:
    with pytest.raises(
        ManifestError, match=r'"a:b/c" and "a:b@1\.0\.0" both match the import "a:b/c@1\.0\.0"'
    ) as caught:
        linked({"own": ["a:b@1.0.0", "a:b/c", "a:b"]}, "a:b/c@1.0.0")
    assert caught.value.hint == 'add the full name "a:b/c@1.0.0"'
    assert caught.value.line == 9


def test_a_plain_import_is_linked_by_its_name() -> None:
    link = linked({"own": ["log"]}, "log")
    assert link is not None
    assert link.reason == '"log" in [components.a.imports] matches it exactly'


def test_a_default_does_not_link_a_component_to_itself() -> None:
    text = GOOD + '[providers.p]\nuse = "component:a"\n[links]\n"a:b".provider = "p"\n'
    with pytest.raises(ManifestError, match="links a to itself") as caught:
        read(text).link_for("a", "a:b/c")
    assert caught.value.hint == 'give it another provider in components.a.imports."a:b"'
    assert read(text).link_for(None, "a:b/c") is not None
    with pytest.raises(KeyError):
        read(text).link_for("nobody", "a:b/c")


def test_errors_found_later_can_point_into_the_manifest() -> None:
    parsed = read(FULL)
    keys = parsed.components["site"].imports["loop:fsx"].keys
    assert parsed.position(keys) == (14, 1)
    assert str(parsed.error((*keys, "grant"), "no such folder")) == (
        'loop.toml:14:36: components.site.imports."loop:fsx".grant: no such folder'
    )


def test_secrets_are_read_late_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = GOOD + 'env = { A = { env = "LOOP_TEST_SECRET" }, B = { file = "key" } }'
    env = loads(text, tmp_path / "loop.toml", shown="loop.toml").components["a"].env
    with pytest.raises(
        ManifestError, match=r"loop\.toml:3:13: components\.a\.env\.A: the environment variable"
    ):
        manifest.reveal(env)
    monkeypatch.setenv("LOOP_TEST_SECRET", "hunter2")
    with pytest.raises(
        ManifestError, match=r"components\.a\.env\.B: cannot read the file .*key: No such file"
    ):
        manifest.reveal(env)
    (tmp_path / "key").write_bytes(b"\xffhunter2")
    with pytest.raises(ManifestError, match="is not UTF-8") as caught:
        manifest.reveal(env)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    (tmp_path / "key").write_text("hunter2\n\n")
    assert manifest.reveal({"x": [env]}) == {"x": [{"A": "hunter2", "B": "hunter2\n"}]}
    assert "hunter2" not in repr(env)


def test_load_and_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = tmp_path / "ws"
    deep = ws / "a" / "b"
    deep.mkdir(parents=True)
    with pytest.raises(ManifestError, match=r"loop\.toml: not found in .* or above"):
        manifest.find(deep)
    (ws / "loop.toml").write_text(GOOD)
    assert manifest.find(deep) == ws / "loop.toml"
    assert manifest.load(ws) == manifest.load(str(ws / "loop.toml"))
    assert manifest.load(ws).components["a"].path == ws / "a.wasm"
    monkeypatch.chdir(deep)
    assert manifest.find() == ws / "loop.toml"
    assert manifest.load("../..").source.shown == os.path.join("..", "..", "loop.toml")
    with pytest.raises(ManifestError, match=r"^none\.toml: cannot be read: No such file or directory$"):
        manifest.load("none.toml")


def test_paths_start_where_the_folder_really_is(tmp_path: Path) -> None:
    real = tmp_path / "deep" / "er" / "ws"
    real.mkdir(parents=True)
    (real / "loop.toml").write_text(GOOD.replace("a.wasm", "../a.wasm"))
    (tmp_path / "link").symlink_to(real)
    assert manifest.load(tmp_path / "link").components["a"].path == tmp_path / "deep/er/a.wasm"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xff", "loop.toml:1:1: not UTF-8: byte 0xff (save the file as UTF-8)"),
        (b"# \xc3\xa9\n# \xc3", "loop.toml:2:3: not UTF-8: byte 0xc3"),
        (b"a" * (1 << 20) + b" ", "loop.toml: larger than 1048576 bytes"),
        (b"\xef\xbb\xbf[x]", 'loop.toml:1:2: unknown key "x"'),
        (b"a = 1\r\n[x]\r\n", 'loop.toml:2:2: unknown key "x"'),
    ],
)
def test_bytes_that_are_no_text(data: bytes, expected: str) -> None:
    with pytest.raises(ManifestError) as caught:
        loads(data, shown="loop.toml")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("parse", "value", "expected"),
    [
        (parse_size, "64MiB", 64 << 20),
        (parse_size, "1 GB", 10**9),
        (parse_size, "2kB", 2000),
        (parse_size, "7B", 7),
        (parse_size, 1, 1),
        (parse_duration, "250ms", 0.25),
        (parse_duration, "1.5h", 5400.0),
        (parse_duration, "2 m", 120.0),
        (parse_duration, 2, 2.0),
    ],
)
def test_units(parse: Any, value: object, expected: float) -> None:
    assert parse(value) == pytest.approx(expected)


@pytest.mark.parametrize(
    "value", ["", "1", "MiB", "-1MiB", "1.5MiB", "0MiB", "1mb", "1MiB\n", "٣MiB", 0, -1, "9999999TiB"]
)
def test_no_sizes(value: int | str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(value)


@pytest.mark.parametrize(
    "value", ["", "1", "s", "-1s", "0s", "0.0ms", "1.s", "1s\n", 0, -1.0, float("nan"), 10**400]
)
def test_no_durations(value: float | str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'sources = ["src/**"]\npath = "a.wasm"',
            'loop.toml:2:1: components.a: "sources" are what "build" reads, and there is none (add it)',
        ),
        (
            'path = "a.wasm"\nbuild = "b"\nsources = ["src/["]',
            'loop.toml:4:12: components.a.sources[0]: "src/[" is no pattern (write one such as "src/**" or "*.js")',
        ),
        (
            'path = "a.wasm"\nbuild = "b"\nsources = ["/etc/**"]',
            "loop.toml:4:12: components.a.sources[0]: expected a pattern from the manifest's folder, such as "
            '"src/**", got "/etc/**"',
        ),
        (
            'path = "a.wasm"\nbuild = "b"\nsources = []',
            "loop.toml:4:11: components.a.sources: must have at least 1 element",
        ),
    ],
)
def test_sources_that_are_none(text: str, message: str) -> None:
    assert problems(f"[components.a]\n{text}") == [message]


def test_sources_are_of_those_who_have_files() -> None:
    text = '[providers.p]\nuse = "{}"\nsources = ["src/**"]\ntrusted = true'
    refused = 'loop.toml:3:1: providers.p: "sources" is a key of `python:` and `sidecar:` providers'
    for use in ("builtin:core", "remote:unix:x", "component:a.wasm", "sidecar:builtin:core"):
        assert problems(text.format(use)) == [refused]
    for use in ("python:a:B", "sidecar:python:a:B", "sidecar:node:a.js", "sidecar:./a"):
        assert read(text.format(use)).providers["p"].sources == ("src/**",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('bind = { wit = "wit" }', '3:8: components.a.bind: names no file to write: give "python" or "typescript"'),
        (
            'bind = { python = "types/" }',
            '3:19: components.a.bind.python: expected a Python module to write, such as "src/bindings.py", got "types/"',
        ),
        (
            'bind = { typescript = "a.ts" }',
            "3:23: components.a.bind.typescript: expected declarations to write, such as "
            '"src/bindings.d.ts", got "a.ts"',
        ),
        (
            'bind = { python = "a.py", world = "a", interfaces = ["b"] }',
            '3:8: components.a.bind: name a "world" or "interfaces", not both',
        ),
        (
            'bind = { pyton = "a.py", python = "b.py" }',
            '3:10: components.a.bind: unknown key "pyton" (did you mean "python"?)',
        ),
        (
            'bind = { python = "a.py" }\n[providers.p]\nuse = "sidecar:x"\nbind = { python = "x/../a.py" }',
            '6:19: providers.p.bind.python: "/team/ws/a.py" is written by components.a already',
        ),
    ],
)  # fmt: skip
def test_types_that_cannot_be_written(text: str, message: str) -> None:
    assert problems(f'[components.a]\npath = "a.wasm"\n{text}') == [f"loop.toml:{message}"]


def test_types() -> None:
    bind = 'bind = { python = "src/t.py", typescript = "t.d.ts", wit = "../wit", interfaces = ["store"] }'
    found = read(f'[components.a]\npath = "a.wasm"\n{bind}').components["a"].bind
    root = Path("/team/ws")
    assert found == Bind(Path("/team/wit"), root / "src/t.py", root / "t.d.ts", None, ("store",))
