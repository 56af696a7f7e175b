"""Every error that a synchronous host raises: its class, its fields, and a text that helps."""

import inspect
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import loop_kit as loop
from loop_kit import errors
from loop_kit.errors import (
    ArgumentError,
    CallError,
    GuestTrap,
    HostClosed,
    LinkError,
    LinkProblem,
    LoadError,
    LoopError,
    NoSuchExport,
    Problem,
    ProviderError,
    ProviderTypeError,
)
from tests.guests import API, HOST, Guest, assemble
from tests.wit_types import STRING, U8, U32, Enum, List, Option, Record, Result

OTHER = "acme:other/thing@1.2.0"
POINT = Record((("x", U32), ("from-y", Option(STRING))), "point")


@pytest.fixture(scope="module")
def host() -> Iterator[loop.blocking.Host]:
    with loop.blocking.Host(cache=None) as host:
        yield host


def asks() -> Guest:
    guest = Guest().imports("get-one", [("n", U32)], U32).imports("put-two", [STRING], Result(U8, STRING))
    guest.imports("places", [], List(POINT)).imports("x", [], None, of=OTHER)
    guest.exports("one", [("number", U32)], U32, "(call $get-one (local.get 0))")
    guest.exports("places", [], U32, "(call $places (i32.const 64)) (i32.load (i32.const 68))")
    guest.exports("at", [("p", POINT), ("more", List(POINT))], None, "nop")
    guest.exports("run", [], None, "nop").exports("run", [], None, "nop", of="acme:b/c@0.1.0")
    return guest.exports("boom", [], None, "(call $down)")


def provider(**members: Any) -> dict[str, Any]:
    made = {"get_one": lambda n: n, "put_two": lambda s: 1, "places": list, **members}
    return {HOST: SimpleNamespace(**made), OTHER: SimpleNamespace(x=lambda: None)}


@pytest.fixture(scope="module")
def wasm() -> bytes:
    guest = asks()
    guest.code = "(func $down (call $further)) (func $further unreachable)"
    return guest.wasm()


# ---- loading


def test_what_is_no_component(host: loop.blocking.Host, wasm: bytes, tmp_path: Path) -> None:
    for wrong in (b"", b"hello", wasm[:100], wasm + b"\0", b"\0asm\x0d\0\1\0\xff"):
        with pytest.raises(LoadError) as caught:
            host.load(wrong)
        assert not isinstance(caught.value, LinkError)
        assert str(caught.value)
    with pytest.raises(FileNotFoundError):
        host.load(tmp_path / "missing.wasm")
    with pytest.raises(TypeError):
        host.load(5)  # type: ignore[arg-type]
    (tmp_path / "good.wasm").write_bytes(wasm)
    assert host.load(str(tmp_path / "good.wasm"), provider()).call("one", 1) == 1


def test_what_a_host_cannot_provide(host: loop.blocking.Host) -> None:
    with pytest.raises(LinkError, match="m: is a core module, which no host can provide"):
        host.load(assemble('(import "m" (core module $m))'))


def test_every_missing_import_is_listed(host: loop.blocking.Host, wasm: bytes) -> None:
    with pytest.raises(LinkError) as caught:
        host.load(wasm)
    assert [(p.interface, p.item, p.offered) for p in caught.value.problems] == [
        (HOST, None, ()),
        (OTHER, None, ()),
    ]
    for name in (HOST, OTHER):
        assert f"{name}: no provider; nothing was offered" in str(caught.value)


def test_the_nearest_name_is_offered(host: loop.blocking.Host, wasm: bytes) -> None:
    with pytest.raises(LinkError) as caught:
        host.load(wasm, {"test:guest/hosts": object(), "acme:other/thing": SimpleNamespace(y=1)})
    interface, item, stray = caught.value.problems
    assert (interface.interface, interface.offered) == (HOST, ("acme:other/thing", "test:guest/hosts"))
    assert str(interface).endswith("(did you mean 'test:guest/hosts'?)")
    assert (item.interface, item.item, item.offered) == (OTHER, "x", ("y",))
    assert (stray.interface, stray.message) == (
        "test:guest/hosts",
        "provided, but the component does not import it",
    )


def test_members_that_are_missing_or_do_not_fit(host: loop.blocking.Host, wasm: bytes) -> None:
    members = SimpleNamespace(get_on=lambda n: n, put_two=lambda: 1, places=5)
    with pytest.raises(LinkError) as caught:
        host.load(wasm, {HOST: members, OTHER: SimpleNamespace(x=lambda a, b=1: None)})
    found = {p.item: str(p) for p in caught.value.problems}
    assert set(found) == {"get_one", "put_two", "places", "x"}
    assert "needed for func(n: u32) -> u32" in found["get_one"]
    assert found["get_one"].endswith("(did you mean 'get_on'?)")
    assert "does not fit func(p0: string) -> result<u8, string>" in found["put_two"]
    assert "is not callable" in found["places"]
    assert "did you mean" not in found["places"]
    assert "does not fit func()" in found["x"]


@pytest.mark.parametrize("name", [OTHER, "acme:other/thing"])
def test_a_version_may_be_left_out(host: loop.blocking.Host, wasm: bytes, name: str) -> None:
    imports = provider()
    imports[name] = imports.pop(OTHER)
    assert host.load(wasm, imports).call("one", 3) == 3


def test_signatures_that_fit(host: loop.blocking.Host, wasm: bytes) -> None:
    class Callable_:
        def __call__(self, n: int) -> int:
            return n + 1

    for get_one in (lambda *a: a[0] + 1, lambda n, m=1: n + m, Callable_(), int, (1).__add__):
        app = host.load(wasm, provider(get_one=get_one))
        assert app.call("one", 5) == (5 if get_one is int else 6)


def test_imports_at_the_root(host: loop.blocking.Host) -> None:
    wasm = assemble("""
      (import "get-one" (func $f (result u32)))
      (core func $g (canon lower (func $f)))
      (core module $m (import "h" "g" (func $g (result i32))) (func (export "one") (result i32) (call $g)))
      (core instance $i (instantiate $m (with "h" (instance (export "g" (func $g))))))
      (func (export "one") (result u32) (canon lift (core func $i "one")))""")
    for name in ("get-one", "get_one"):
        assert host.load(wasm, {name: lambda: 5}).call("one") == 5
    with pytest.raises(LinkError) as caught:
        host.load(wasm)
    assert (caught.value.problems[0].interface, caught.value.problems[0].item) == ("", "get_one")
    app = host.load(wasm, {"get-one": lambda: "text"})
    with pytest.raises(ProviderTypeError, match="the provider of get-one returned") as wrong:
        app.call("one")
    assert (wrong.value.interface, wrong.value.function) == ("", "get-one")


ENUM = '(type $e (enum "red" "dark-blue"))'
COLOUR = """
  (core module $m (func (export "f") (param i32) (result i32) local.get 0))
  (core instance $i (instantiate $m))
  (func $f (param "c" $colour) (result $colour) (canon lift (core func $i "f")))
  (export "f" (func $f))"""


def test_an_interface_of_types_needs_no_provider(host: loop.blocking.Host) -> None:
    wasm = assemble(
        f'(import "acme:ui/types" (instance $t {ENUM} (export "colour" (type (eq $e)))))'
        f'(alias export $t "colour" (type $colour)) {COLOUR}'
    )
    app = host.load(wasm)
    assert app.call("f", "dark-blue").value == 1
    assert host.load(wasm, {"acme:ui/types": object()}).call("f", "red").value == 0


def test_types_of_the_world_have_their_names(host: loop.blocking.Host) -> None:
    app = host.load(assemble(f'{ENUM} (import "colour" (type $colour (eq $e))) {COLOUR}'))
    assert app.functions[0].wit == "func(c: colour) -> colour"
    assert type(app.call("f", "red")).__name__ == "Colour"


# ---- finding exports


def test_exports_are_found_by_path_and_by_bare_name(host: loop.blocking.Host, wasm: bytes) -> None:
    app = host.load(wasm, provider())
    assert app.call("one", 1) == app.call(f"{API}#one", 1) == app.exports[API].one(1) == 1
    assert app.call("acme:b/c@0.1.0#run") is None
    assert app.exports["acme:b/c"].run() is None
    assert sorted(app.exports) == ["acme:b/c@0.1.0", API]
    with pytest.raises(AttributeError, match="has no 'nothing'"):
        _ = app.exports[API].nothing


def test_a_name_that_nothing_exports(host: loop.blocking.Host, wasm: bytes) -> None:
    app = host.load(wasm, provider())
    with pytest.raises(NoSuchExport) as caught:
        app.call("ona")
    assert (caught.value.name, caught.value.hint) == ("ona", "did you mean 'one'?")
    assert f"{API}#one" in caught.value.exports
    assert f"{API}#one" in str(caught.value)
    with pytest.raises(LookupError, match=f"did you mean '{API}#one'"):
        app.call("test:guest/ap#one")
    with pytest.raises(NoSuchExport, match=f"did you mean '{API}'"):
        _ = app.exports["test:guest/apis"]


def test_a_bare_name_of_two_interfaces(host: loop.blocking.Host, wasm: bytes) -> None:
    app = host.load(wasm, provider())
    with pytest.raises(NoSuchExport) as caught:
        app.call("run")
    text = str(caught.value)
    assert "acme:b/c@0.1.0#run" in text
    assert f"{API}#run" in text
    assert caught.value.hint is None or "run" in caught.value.hint


# ---- calling


def test_the_number_of_arguments(host: loop.blocking.Host, wasm: bytes) -> None:
    app = host.load(wasm, provider())
    for args in ((), (1, 2)):
        with pytest.raises(ArgumentError, match=f"{API}#one takes 1 arguments, got {len(args)}") as caught:
            app.call("one", *args)
        assert isinstance(caught.value, TypeError)
        e = caught.value
        assert (e.interface, e.function, e.parameter, e.path) == (API, "one", "", "")
        assert (e.expected, e.got) == ("1 arguments", str(len(args)))


def test_where_an_argument_does_not_fit(host: loop.blocking.Host, wasm: bytes) -> None:
    app = host.load(wasm, provider())
    good = {"x": 1, "from_y": None}
    with pytest.raises(ArgumentError) as caught:
        app.call("at", good, [good, {"x": 1, "from_y": b"bytes"}])
    e = caught.value
    assert (e.interface, e.function, e.parameter, e.path) == (API, "at", "more", "[1].from-y")
    assert (e.expected, e.got) == ("string", "bytes b'bytes'")
    assert str(e) == f"{API}#at: parameter `more`: [1].from-y: expected string, got bytes b'bytes'"
    with pytest.raises(ArgumentError) as caught:
        app.call("one", "x" * 1000)
    assert len(caught.value.got) < 80
    assert caught.value.got.endswith("…")


def test_a_trap_shows_the_guests_frames(host: loop.blocking.Host, wasm: bytes) -> None:
    app = host.load(wasm, provider())
    with pytest.raises(GuestTrap) as caught:
        app.call("boom")
    e = caught.value
    assert (e.export, e.code) == (f"{API}#boom", "UnreachableCodeReached")
    assert "unreachable" in e.reason
    assert e.backtrace is not None
    assert e.backtrace.index("further") < e.backtrace.index("down")
    assert e.backtrace.rstrip() in str(e)


def test_a_provider_that_raises(host: loop.blocking.Host, wasm: bytes) -> None:
    mistake = ValueError("no good")

    def get_one(n: int) -> int:
        raise mistake

    app = host.load(wasm, provider(get_one=get_one))
    with pytest.raises(ProviderError) as caught:
        app.call("one", 1)
    e = caught.value
    assert (e.interface, e.function, e.__cause__) == (HOST, "get-one", mistake)
    assert str(e) == f"the provider of {HOST}#get-one raised ValueError('no good')"
    assert not isinstance(e, ProviderTypeError)
    assert mistake.__traceback__ is not None
    assert mistake.__traceback__.tb_frame.f_code.co_name == "get_one"


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_passes_through(host: loop.blocking.Host, wasm: bytes, raised: type) -> None:
    def get_one(n: int) -> int:
        raise raised

    app = host.load(wasm, provider(get_one=get_one))
    with pytest.raises(raised):
        app.call("one", 1)


def test_an_error_of_ours_passes_through(host: loop.blocking.Host, wasm: bytes) -> None:
    inner = host.load(Guest().exports("boom", [], None, "unreachable").wasm())
    app = host.load(wasm, provider(get_one=lambda n: inner.call("boom")))
    with pytest.raises(GuestTrap) as caught:
        app.call("one", 1)
    assert caught.value.export == f"{API}#boom"


def test_err_where_no_result_is_declared_is_a_mistake(host: loop.blocking.Host, wasm: bytes) -> None:
    def get_one(n: int) -> int:
        raise loop.Err("why")

    with pytest.raises(ProviderError) as caught:
        host.load(wasm, provider(get_one=get_one)).call("one", 1)
    assert caught.value.__cause__ == loop.Err("why")


@pytest.mark.parametrize("wrong", [None, "text", 1.5, 2**32, -1])
def test_a_provider_that_returns_something_else(host: loop.blocking.Host, wasm: bytes, wrong: Any) -> None:
    app = host.load(wasm, provider(get_one=lambda n: wrong))
    with pytest.raises(ProviderTypeError) as caught:
        app.call("one", 1)
    e = caught.value
    assert (e.interface, e.function, e.path, e.expected) == (HOST, "get-one", "", "u32")
    assert str(wrong) in e.got
    assert isinstance(e, TypeError)
    assert str(e) == f"the provider of {HOST}#get-one returned a wrong value: expected u32, got {e.got}"


def test_where_a_providers_answer_does_not_fit(host: loop.blocking.Host, wasm: bytes) -> None:
    places = [{"x": 1, "from_y": None}, {"x": -1, "from_y": None}]
    app = host.load(wasm, provider(places=lambda: places))
    with pytest.raises(ProviderTypeError) as caught:
        app.call("places")
    assert (caught.value.path, caught.value.expected, caught.value.got) == ("[1].x", "u32", "int -1")
    places.pop()
    assert app.call("places") == 1


def test_a_repr_that_raises_does_not_hide_the_mismatch(host: loop.blocking.Host, wasm: bytes) -> None:
    class Shy:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    with pytest.raises(ArgumentError) as caught:
        host.load(wasm, provider()).call("one", Shy())
    assert caught.value.got.startswith("Shy")


def test_a_closed_host(wasm: bytes) -> None:
    host = loop.blocking.Host(cache=None)
    app = host.load(wasm, provider())
    api = app.exports[API]
    host.close()
    host.close()
    uses: list[Callable[[], Any]] = [
        lambda: host.load(wasm, provider()),
        host.__enter__,
        lambda: app.call("one", 1),
        lambda: api.one(1),
    ]
    for use in uses:
        with pytest.raises(HostClosed):
            use()


# ---- the classes themselves


SAMPLES: dict[type, tuple[Any, ...]] = {
    errors.LoopError: ("text",),
    errors.ManifestError: ([Problem("loop.toml", 1, 2, "key", "message", "hint")],),
    errors.LoadError: ("text",),
    errors.LinkError: ([LinkProblem("a:b/c", "item", "message", ("offered",))],),
    errors.PackageError: ("text",),
    errors.Damaged: ("sha256:00", "sha256:11", "a blob"),
    errors.Untrusted: ("text",),
    errors.NoSuchExport: ("one", ["once", "two"]),
    errors.CallError: ("text",),
    errors.ArgumentError: ("text", "a:b/c", "f", "p", ".x", "u8", "int 256"),
    errors.GuestTrap: ("a:b/c#f", "unreachable", "UnreachableCodeReached", "0: f"),
    errors.ProviderError: ("text", "a:b/c", "f"),
    errors.ProviderTypeError: ("text", "a:b/c", "f", ".x", "u8", "int 256"),
    errors.DeadlineExceeded: ("text", 1.5),
    errors.LimitExceeded: ("text", "memory", 65536),
    errors.Overloaded: ("text", 3),
    errors.ProviderGone: ("text",),
    errors.Reentered: ("text",),
    errors.WireError: ("text", "mismatch", None, ".x", "u8", "int 256"),
    errors.HostClosed: ("text",),
    errors.ForkError: ("text",),
    errors.NotGranted: ("text", "a/kv"),
    errors.BadHandle: ("text",),
    errors.Cancelled: ("text",),
    errors.PeerError: ("text",),
    errors.NotOffered: ("text", "acme:kv/store", "acme:kv/other"),
    errors.VersionMismatch: ("text", "acme:kv/store", "00", "11"),
    errors.Unauthenticated: ("text",),
    errors.ProtocolError: ("text",),
}


def test_there_is_a_sample_of_each() -> None:
    tree = {c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, LoopError)}
    assert tree == set(SAMPLES)
    assert all(c.__name__ in errors.__all__ and c.__name__ in (errors.__doc__ or "") for c in tree)


@pytest.mark.parametrize("cls", SAMPLES, ids=lambda c: c.__name__)
def test_errors_survive_pickling(cls: Callable[..., LoopError]) -> None:
    e = cls(*SAMPLES[cls])  # type: ignore[index]
    copy = pickle.loads(pickle.dumps(e))
    assert (type(copy), str(copy), vars(copy)) == (type(e), str(e), vars(e))


def test_err_survives_pickling_and_is_no_loop_error() -> None:
    e = pickle.loads(pickle.dumps(loop.Err({"a": 1})))
    assert (e, e.value, repr(e)) == (loop.Err({"a": 1}), {"a": 1}, "Err({'a': 1})")
    assert not isinstance(e, LoopError)
    assert pickle.loads(pickle.dumps(loop.Ok(5))) == loop.Ok(5)


def test_an_error_variant_is_raised_with_its_value(host: loop.blocking.Host) -> None:
    failure = Enum(("no-entry", "busy"), "failure")
    guest = Guest().exports("f", [U32], Result(None, failure), "(i32.store8 (i32.const 64) (i32.const 1))"
        "(i32.store8 (i32.const 65) (local.get 0)) (i32.const 64)")  # fmt: skip
    app = host.load(guest.wasm())
    with pytest.raises(loop.Err) as caught:
        app.call("f", 1)
    value: Any = caught.value.value
    assert (value.name, type(value).__name__) == ("BUSY", "Failure")
    assert value is app.exports[API].Failure.BUSY
    assert not isinstance(caught.value, CallError)
