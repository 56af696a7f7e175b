"""Providers to be written: each function of the WIT is there, and fails until somebody writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loop_kit import _core
from loop_kit._types import pascal, snake
from loop_kit.errors import LoadError
from loop_kit.routes import attribute_of

__all__ = ["written"]


def written(language: str, wit: Path) -> dict[str, str]:
    """The code and its test, by their paths.

    Raises:
        LoadError: The WIT is not sound, or has no interface with functions.
    """
    try:
        interfaces = [i for i in _core.Contract(wit, []).interfaces() if i.functions]
    except LoadError as error:
        raise LoadError(f"{wit}: {error}") from None
    if not interfaces:
        raise LoadError(f"{wit}: there is no interface with functions, so nothing to serve")
    return {"python": _python, "node": _node, "rust": _rust}[language](interfaces)


def _camel(name: str) -> str:
    first, *rest = name.lower().split("-")
    return first + "".join(part.capitalize() for part in rest)


def _members(interface: Any) -> tuple[list[Any], dict[str, list[Any]]]:
    """The functions of an interface, and those of its resources by the resource's name in WIT."""
    free: list[Any] = []
    owned: dict[str, list[Any]] = {name: [] for name in interface.resources}
    for function in interface.functions:
        if function.name.startswith("["):
            owned[function.name.partition("]")[2].partition(".")[0]].append(function)
        else:
            free.append(function)
    return free, owned


def _python(interfaces: list[Any]) -> dict[str, str]:
    lines: list[str] = []

    def define(function: Any, indent: str) -> None:
        _, attribute = attribute_of(function.name)
        static = function.name.startswith("[static]")
        params = [snake(name) for name, _ in function.parameters if name != "self"]
        given = ", ".join(params if static else ["self", *params])
        if static:
            lines.append(f"{indent}@staticmethod")
        kind = "async def" if function.is_async else "def"
        lines.append(f"{indent}{kind} {attribute or '__init__'}({given}):")
        lines.append(f'{indent}    """`{function.wit}`."""')
        lines.append(f'{indent}    raise NotImplementedError("{function.name} is not written yet")')
        lines.append("")

    for interface in interfaces:
        free, owned = _members(interface)
        for resource, functions in owned.items():
            lines.append(f"    class {pascal(resource)}:")
            lines.append(f'        """`{resource}` of {interface.name}."""')
            lines.append("")
            for function in functions:
                define(function, "        ")
        for function in free:
            define(function, "    ")
    names = ", ".join(f'"{i.name}"' for i in interfaces)
    head = [
        '"""To be written: docs/providers.md of loop-kit says what a provider may do."""',
        "",
        "from loop_kit.provider import provider",
        "",
        "",
        f'@provider({names}, wit="wit")',
        "class Provider:",
        '    """What serves all links; with `grant` and `config` as parameters of `__init__` each link gets its own."""',
        "",
    ]
    test = f'''"""The provider, called as a host calls it."""

import tempfile
import unittest
from pathlib import Path

from loop_kit import peer
from loop_kit.provider import serve
from provider import Provider

WIT = Path(__file__).parent / "wit"
INTERFACES = [{names}]


class Tests(unittest.IsolatedAsyncioTestCase):
    """What it promises."""

    async def test_it_serves_what_its_wit_says(self):
        with tempfile.TemporaryDirectory() as folder:
            server = await serve(Provider, on=f"unix:{{folder}}/socket")
            async with await peer.connect(server.address, INTERFACES, wit=WIT):
                pass  # await session.call("function", 1, 2)
            await server.close()
'''
    return {"provider.py": "\n".join(head + lines).rstrip() + "\n", "test_provider.py": test}


def _node(interfaces: list[Any]) -> dict[str, str]:
    lines = [
        "import { Failure } from '@loop-kit/provider';",
        "",
        "function unwritten(name) {",
        "  throw new Failure('no-such-function', `${name} is not written yet`);",
        "}",
        "",
        "/** What serves all links; a function `({ grant, config }) => object` in its place is called for each link. */",
        "export default {",
    ]

    def define(function: Any, indent: str, comma: str) -> None:
        owner, _ = attribute_of(function.name)
        bare = function.name.rpartition(".")[2] if owner else function.name
        static = "static " if function.name.startswith("[static]") else ""
        name = "constructor" if function.name.startswith("[constructor]") else _camel(bare)
        params = ", ".join(_camel(p) for p, _ in function.parameters if p != "self")
        lines.append(f"{indent}/** `{function.wit}` */")
        kind = "async " if function.is_async and name != "constructor" else ""
        lines.append(f"{indent}{static}{kind}{name}({params}) {{")
        lines.append(f"{indent}  unwritten('{function.name}');")
        lines.append(f"{indent}}}{comma}")

    for interface in interfaces:
        free, owned = _members(interface)
        lines.append(f"  '{interface.name}': {{")
        for resource, functions in owned.items():
            lines.append(f"    {pascal(resource)}: class {{")
            for function in functions:
                define(function, "      ", "")
            lines.append("    },")
        for function in free:
            define(function, "    ", ",")
        lines.append("  },")
    lines.append("};")
    names = ", ".join(f"'{i.name}'" for i in interfaces)
    test = f"""import assert from 'node:assert/strict';
import {{ mkdtempSync, rmSync }} from 'node:fs';
import {{ tmpdir }} from 'node:os';
import {{ join }} from 'node:path';
import {{ test }} from 'node:test';
import {{ connect, serve }} from '@loop-kit/provider';
import provides from '../src/provider.js';

const wit = new URL('../wit', import.meta.url);
const interfaces = [{names}];

test('it serves what its WIT says', async (t) => {{
  const folder = mkdtempSync(join(tmpdir(), 'provider-'));
  const server = await serve({{ wit, provides, on: `unix:${{join(folder, 'socket')}}` }});
  const client = await connect(server.address, {{ wit, imports: interfaces }});
  t.after(async () => {{
    await client.close();
    await server.close();
    rmSync(folder, {{ recursive: true }});
  }});
  assert.deepEqual(Object.keys(client.imports), interfaces);
}});
"""
    return {"src/provider.js": "\n".join(lines) + "\n", "test/provider.test.js": test}


def _rust(interfaces: list[Any]) -> dict[str, str]:
    bare = [i.name.partition("/")[2].partition("@")[0] for i in interfaces]
    resources = dict.fromkeys(pascal(name) for i in interfaces for name in i.resources)
    lines = [
        "//! To be written: the build script makes a module of each interface, whose trait has its functions.",
        "",
        "#[cfg(test)]",
        "mod tests;",
        "",
        "use std::process::ExitCode;",
        "",
        "use loop_provider::Provider;",
        "",
        "loop_provider::wit!();",
        "",
    ]
    for resource in resources:
        lines += [f"/// The resource `{resource}`.", f"pub struct {resource};", ""]
    for name, interface in zip(bare, interfaces, strict=True):
        owner = f"{pascal(name)}Provider"
        lines += [f"/// Serves `{interface.name}`: one for each link.", f"struct {owner};", ""]
        lines += [f"impl {snake(name)}::Provider for {owner} {{"]
        lines += [f"    // {function.name}: {function.wit}" for function in interface.functions]
        lines += ["}", ""]
    lines += ["fn provider() -> Provider {", "    Provider::new()"]
    lines += [f"        .with({snake(name)}::provide(|_link| Ok({pascal(name)}Provider)))" for name in bare]
    lines += ["}", "", "fn main() -> ExitCode {", "    provider().run()", "}"]
    test = """use loop_provider::Address;

#[tokio::test]
async fn it_serves_what_its_wit_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = Address::Unix(folder.path().join("socket"));
    let server = super::provider().serve(&address).await.expect("it listens");
    assert_eq!(server.addresses(), [address]);
}
"""
    build = """fn main() {
    // `unfinished` has functions fail that are not written yet; without it the compiler names them.
    loop_provider_build::Wit::new("wit").unfinished().write();
}
"""
    return {"src/main.rs": "\n".join(lines) + "\n", "src/tests.rs": test, "build.rs": build}
