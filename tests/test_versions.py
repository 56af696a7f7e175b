"""Which version of an interface serves one that is asked for, and that released interfaces stay as they are."""

from pathlib import Path

import pytest

import loop_kit as loop
from loop_kit import _core
from loop_kit.errors import LinkError
from loop_kit.wit import compare
from tests.guests import Guest
from tests.wit_types import U32

ROOT = Path(__file__).resolve().parent.parent
RELEASED = sorted(path for path in (ROOT / "wit" / "loop").iterdir() if path.is_dir())
INSTALLED = Path(loop.__file__).parent


def current(package: str) -> Path:
    """The WIT of `loop:package` as it is installed."""
    return INSTALLED / ("wit" if package == "provider" else f"capabilities/{package}/wit")


@pytest.mark.parametrize("released", RELEASED, ids=lambda path: path.name)
def test_a_released_interface_changes_in_no_way_that_breaks(released: Path) -> None:
    comparison = compare(released, current(released.name))
    assert comparison.versions, f"{released} has no package"
    assert not comparison.refused, "\n".join(f"{c.interface} {c.item}: {c.what}" for c in comparison.refused)


def test_every_interface_of_loop_is_released() -> None:
    names = {name.partition("/")[0] for _, names in _core.capabilities() for name in names}
    ours = {name.removeprefix("loop:") for name in names if name.startswith("loop:")}
    assert ours | {"provider"} == {path.name for path in RELEASED}
    served = [name for _, names in _core.capabilities() for name in names if name.startswith("loop:")]
    assert [name for name in served if "-" in name.partition("@")[2]] == []


def providing(version: str) -> bytes:
    guest = Guest().exports(
        "get", [U32], U32, "(i32.add (local.get 0) (i32.const 1))", of=f"acme:kv/store{version}"
    )
    return guest.wasm()


def wanting(interface: str) -> bytes:
    guest = Guest().imports("get", [U32], U32, of=interface)
    return guest.exports("get", [U32], U32, "(call $get (local.get 0))").wasm()


@pytest.mark.parametrize(
    ("wanted", "offered", "fits"),
    [
        ("@0.1.0", "@0.1.0", True),
        ("@0.1.0", "@0.1.3", True),
        ("@0.1.3", "@0.1.0", False),
        ("@0.1.0", "@0.2.0", False),
        ("@1.0.5", "@1.2.0", True),
        ("@1.0.0", "@2.0.0", False),
        ("@0.1.0", "@0.1.0-dev", False),
        ("", "@0.1.0", True),
        ("@0.1.0", "", True),
    ],
)
async def test_a_component_serves_the_versions_that_semver_says(
    wanted: str, offered: str, fits: bool
) -> None:
    async with loop.Host(cache=None) as host:
        one = await host.load(providing(offered))
        importing = wanting(f"acme:kv/store{wanted}")
        if fits:
            two = await host.load(importing, {"acme:kv/store": one})
            assert await two.call("get", 41) == 42
            return
        with pytest.raises(LinkError) as caught:
            await host.load(importing, {"acme:kv/store": one})
    said = f"acme:kv/store{wanted}: is there as acme:kv/store{offered}, which does not serve this version"
    assert said in str(caught.value)


async def test_the_version_that_fits_is_taken_where_there_are_several() -> None:
    interfaces = {"@0.2.0": 2, "@0.1.4": 14, "@0.1.0": 10}
    guest = Guest()
    for version, value in interfaces.items():
        guest.exports("get", [U32], U32, f"(i32.const {value})", of=f"acme:kv/store{version}")
    async with loop.Host(cache=None) as host:
        one = await host.load(guest.wasm())
        for wanted, value in {**interfaces, "@0.1.2": 14}.items():
            two = await host.load(wanting(f"acme:kv/store{wanted}"), {"acme:kv/store": one})
            assert await two.call("get", 0) == value


@pytest.mark.parametrize("version", ["@0.1.1", "@0.2.0", "@1.0.0", "@0.1.0-dev"])
async def test_a_native_provider_serves_no_version_that_is_not_its_own(version: str) -> None:
    wasm = wanting(f"loop:core/timers{version}")
    async with loop.Host(cache=None) as host:
        with pytest.raises(LinkError, match="which does not serve this version") as caught:
            await host.load(wasm, {"loop:core": loop.builtin("core")})
    assert f"loop:core/timers{version}: is there as loop:core/timers@0.1.0" in str(caught.value)


async def test_a_native_provider_serves_its_own_packages_alone() -> None:
    async with loop.Host(cache=None) as host:
        with pytest.raises(LinkError, match=r"acme:core/timers@0\.1\.0: is not exported"):
            await host.load(wanting("acme:core/timers@0.1.0"), {"acme:core": loop.builtin("core")})
