"""Links and grants, and who is let in."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from loop_kit.conform._scene import Scene, Unmet, case, expect, fails
from loop_kit.errors import NotGranted, NotOffered, Unauthenticated, VersionMismatch

__all__: list[str] = []


@case("links", "each has its own grant, configuration and instance")
async def _(scene: Scene) -> None:
    session = scene.session
    grants = {11: ({"paths": ["/a", "ü"]}, {"most": 3}), 12: (["x", 1, None, 0.5], None)}
    for number, (grant, config) in grants.items():
        said = ("" if value is None else json.dumps(value) for value in (grant, config))
        await session.link(number, f"conform/{number}", *said)
    for number, wanted in grants.items():
        linked = await session.call("loop:conform/calls#linked", link=number)
        texts = (linked.grant, linked.config)
        expect(tuple(json.loads(text) if text else None for text in texts), wanted, "grant and config")
    counter = await session.call("loop:conform/resources#[constructor]counter", 1, link=11)
    for number, live in ((11, 1), (12, 0)):
        expect(
            await session.call("loop:conform/resources#live", link=number), live, f"counters of link {number}"
        )
    counter.drop()
    for number in grants:
        session.unlink(number)


@case("links", "one that is not bound, or no more, serves nothing")
async def _(scene: Scene) -> None:
    session = scene.session
    add = "loop:conform/calls#add"
    await fails(session.call(add, 1, 2, link=77), NotGranted, "a call in a link that was not bound")
    await fails(session.call(add, 1, 2, link=0), NotGranted, "a call without a link")
    await session.link(21, "conform/21")
    expect(await session.call(add, 1, 2, link=21), 3, "a call in a link that is bound")
    session.unlink(21)
    await fails(session.call(add, 1, 2, link=21), NotGranted, "a call in a link that was unbound")


@case("links", "a grant that the provider refuses")
async def _(scene: Scene) -> None:
    await fails(
        scene.session.link(31, "conform/31", '{"refuse": true}'), NotGranted, "a grant that is refused"
    )
    add = scene.session.call("loop:conform/calls#add", 1, 2, link=31)
    await fails(add, NotGranted, "a call in a link that was refused")
    expect(await scene.call("calls#add", 1, 2), 3, "a call in another link")


async def _meets(scene: Scene, text: str) -> None:
    """Begins a session with other WIT."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "conform.wit").write_text(text)
        async with scene.target.session(wit=Path(folder), grant=None):
            pass


@case("handshake", "another contract is refused")
async def _(scene: Scene) -> None:
    text = _text(scene)
    changed = text.replace("add: func(a: u32, b: u32) -> u32", "add: func(a: u32, b: u32) -> u64")
    error = await fails(_meets(scene, changed), VersionMismatch, "other types under the same names")
    assert isinstance(error, VersionMismatch)
    expect(error.interface, "loop:conform/calls@0.1.0", "the interface that is named")
    later = text.replace("loop:conform@0.1.0", "loop:conform@0.2.0")
    await fails(_meets(scene, later), VersionMismatch, "a later version than is offered")
    other = text.replace("loop:conform@0.1.0", "loop:other@0.1.0")
    await fails(_meets(scene, other), NotOffered, "an interface that is not offered")


@case("handshake", "a token that is asked for must be shown")
async def _(scene: Scene) -> None:
    token = scene.target.token
    if token is None:
        return

    async def with_token(shown: str) -> None:
        async with scene.target.session(token=shown, grant=None):
            pass

    for wrong in ("", token[:-1], token + "x", token.swapcase()):
        await fails(with_token(wrong), Unauthenticated, f"a token of {len(wrong)} characters, the wrong one")
    await with_token(token)


def _text(scene: Scene) -> str:
    path = scene.target.wit
    files = [path] if path.is_file() else sorted(path.glob("*.wit"))
    texts = [file.read_text("utf-8") for file in files]
    for text in texts:
        if "package loop:conform@0.1.0;" in text:
            return text
    raise Unmet(f"{path} has no package loop:conform@0.1.0")
