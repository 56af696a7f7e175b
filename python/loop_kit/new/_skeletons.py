"""Providers to be written: each function of the WIT is there, and fails until somebody writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loop_kit import _core, bind
from loop_kit._types import pascal, snake
from loop_kit.bind._annotations import Annotations, Place, View
from loop_kit.bind._model import Definition, Function
from loop_kit.bind._names import returned
from loop_kit.bind._python import Module, imports, parameter
from loop_kit.bind._resolve import bound
from loop_kit.bind._typescript import camel
from loop_kit.bind._typescript import parameter as js_parameter
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
    if language == "python":
        return _python(wit, [interface.name for interface in interfaces])
    return {"node": _node, "rust": _rust}[language](interfaces)


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


def _python(wit: Path, served: list[str]) -> dict[str, str]:
    whole = bind.bindings(wit)
    chosen = [] if set(served) <= set(whole.imports) else served
    found = bound(wit, None, chosen)
    module = Module(found)
    values = module.values("bindings.")
    interfaces = [interface for interface in found.imports if interface.functions]
    free = {snake(f.name) for i in interfaces for f in i.functions if f.resource is None}
    classes = {pascal(resource.name) for interface in interfaces for resource in interface.resources}
    hidden: set[str] = set()
    lines: list[str] = []

    def handle(resource: Definition, _: View) -> str:
        # a resource that others provide is whatever they make of it
        name = pascal(resource.name)
        return f"Provider.{name}" if name in classes else "object"

    def define(function: Function, write: Annotations, indent: str) -> None:
        params = [f"{parameter(p.name)}: {write.of(p.type, Place.GIVEN)}" for p in function.params]
        given = ", ".join(params if function.kind == "static" else ["self", *params])
        if function.kind == "static":
            lines.append(f"{indent}@{write.known('staticmethod')}")
        kind = "async def" if function.is_async else "def"
        made = function.kind == "constructor"
        result = "None" if made else write.of(returned(function), Place.TAKEN)
        lines.append(f"{indent}{kind} {'__init__' if made else snake(function.bare)}({given}) -> {result}:")
        doc = (function.doc or f"`{function.name}`.").replace("\\", "\\\\").replace('"', "'").splitlines()
        lines.append(f'{indent}    """{doc[0]}' + ('"""' if len(doc) == 1 else ""))
        if len(doc) > 1:
            lines.extend(f"{indent}    {line}".rstrip() for line in (*doc[1:], '"""'))
        lines.append(f'{indent}    raise NotImplementedError("{function.name} is not written yet")')
        lines.append("")

    for interface in interfaces:
        for resource in interface.resources:
            owned = interface.owned(resource.name)
            members = {snake(function.bare) for function in owned}
            lines.append(f"    class {pascal(resource.name)}:")
            lines.append(f'        """`{resource.name}` of {interface.name}."""')
            lines.append("")
            for function in owned:
                define(
                    function,
                    Annotations(values, View.PROVIDER, handle, members, hidden, mine=True),
                    "        ",
                )
        for function in interface.functions:
            if function.resource is None:
                define(function, Annotations(values, View.PROVIDER, handle, free, hidden, mine=True), "    ")
    names = ", ".join(f'"{interface.name}"' for interface in interfaces)
    body = "\n".join(lines).rstrip() + "\n"
    used = imports(body, hidden)
    used = [line for line in used if not line.endswith(" types") or "types." in body.replace("bindings.", "")]
    used = [line for line in used if not line.endswith(" loop") or "loop." in body]
    head = [
        '"""To be written: docs/providers.md of loop-kit says what a provider may do.',
        "",
        "`loop dev` makes the types anew when the WIT changes, and so does `loop bind`.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        *used,
        "from loop_kit.provider import provider",
        "",
        *(["import bindings", ""] if "bindings." in body else []),
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
    return {
        "provider.py": "\n".join(head) + "\n" + body,
        "bindings.py": module.text(),
        "test_provider.py": test,
    }


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
        name = "constructor" if function.name.startswith("[constructor]") else camel(bare)
        params = ", ".join(js_parameter(p) for p, _ in function.parameters if p != "self")
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
