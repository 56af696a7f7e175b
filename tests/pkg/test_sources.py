"""Each source that loop-kit knows, by a server that speaks its protocol: found, checked, unpacked, run."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from loop_kit.errors import Damaged, ManifestError, PackageError
from loop_kit.pkg import Asked, Platform
from tests.pkg.conftest import Workspace
from tests.pkg.servers import Server, script, tar

HERE = Platform.here()
NAMES = {"x86_64": "amd64", "aarch64": "arm64"}


def said(command: tuple[str, ...], *args: str) -> str:
    return subprocess.run([*command, *args], capture_output=True, text=True, check=True).stdout.strip()


async def test_npm_with_what_it_needs(server: Server, workspace: Workspace) -> None:
    """Two versions of one, one for another platform, one by another name, and none of their scripts."""
    os, cpu = HERE.os, {"x86_64": "x64", "aarch64": "arm64"}[HERE.arch]
    server.npm("deep", "1.4.0", {}, {"index.js": "module.exports = 'deep 1.4.0'"})
    server.npm("deep", "2.1.0", {}, {"index.js": "module.exports = 'deep 2.1.0'"})
    server.npm(
        "mid", "1.0.0", {"dependencies": {"deep": "^1.2"}}, {"index.js": "module.exports = require('deep')"}
    )
    server.npm(
        "@acme/native-here", "1.0.0", {"os": [os], "cpu": [cpu]}, {"index.js": "module.exports = 'here'"}
    )
    server.npm("@acme/native-there", "1.0.0", {"os": ["aix"]}, {})
    server.npm("@acme/native-mac", "1.0.0", {"os": ["darwin"], "cpu": ["arm64"]}, {})
    described = {
        "bin": "cli.js",
        "scripts": {"postinstall": "touch installed"},
        "dependencies": {"mid": "~1.0", "deep": "2.x", "alias": "npm:deep@1"},
        "optionalDependencies": {f"@acme/native-{name}": "1.0.0" for name in ("here", "there", "mac")},
    }
    code = "console.log(['mid', 'deep', 'alias', '@acme/native-here'].map((name) => require(name)).join())"
    server.npm("@acme/tool", "3.0.0", described, {"cli.js": code})
    workspace.wants('tool = "npm:@acme/tool@^3"')
    commands = await workspace.install()
    assert said(commands["tool"]) == "deep 1.4.0,deep 2.1.0,deep 1.4.0,here"
    locked = workspace.packages().locked()["tool"]
    places = {node.at: node.version for node in locked.nodes}
    assert places["node_modules/deep"] == "2.1.0"
    assert places["node_modules/mid/node_modules/deep"] == "1.4.0"
    assert "node_modules/@acme/native-there" not in places
    mac = next(node for node in locked.nodes if node.name == "@acme/native-mac")
    assert mac.optional
    assert [file.platforms for file in mac.files] == [("darwin-aarch64",)]
    assert all(file.digest.startswith("sha512:") for node in locked.nodes for file in node.files)
    assert not any("native-mac" in path for path in server.asked if path.endswith(".tgz"))
    # and once more without anything but the store
    shutil.rmtree(workspace.packages().store.folder)
    server.files.clear()
    assert said((await workspace.install(offline=True))["tool"]) == "deep 1.4.0,deep 2.1.0,deep 1.4.0,here"


async def test_pypi_with_what_it_needs(server: Server, workspace: Workspace) -> None:
    """Ranges of two who need the same meet; conditions and withdrawn files are heeded."""
    for version in ("1.0", "1.5", "2.0"):
        server.wheel("deep", version)
    server.wheel("deep", "1.9", yanked="bad")
    server.wheel("deep", "1.8rc1")
    server.wheel("mid", "0.1", "deep <2", 'nothing >=1 ; sys_platform == "aix"', "extra-only; extra == 'x'")
    server.wheel("Main_Tool", "4.2", "mid (>=0.1)", "deep>=1.2")
    server.put("/pypi/main-tool/", server.files["/pypi/Main-Tool/"])  # type: ignore[arg-type]
    workspace.wants('main = "pypi:main-tool@4"')
    commands = await workspace.install()
    assert said(commands["Main_Tool"]) == "Main_Tool 4.2"
    locked = workspace.packages().locked()["main"]
    assert {node.name: node.version for node in locked.nodes} == {
        "main-tool": "4.2",
        "mid": "0.1",
        "deep": "1.5",
    }
    assert locked.python == HERE.python
    assert len(locked.nodes[0].files[0].platforms) >= 7


async def test_pypi_by_pages(server: Server, workspace: Workspace) -> None:
    data = server.wheel("tool", "1.0")
    import hashlib

    digest = hashlib.sha256(data).hexdigest()
    link = f'<a href="../../files/tool-1.0-py3-none-any.whl#sha256={digest}" data-requires-python="&gt;=3.8">'
    link += "tool-1.0-py3-none-any.whl</a>"
    late = '<a href="/no.whl" data-requires-python="&gt;=9">tool-1.0-1-py3-none-any.whl</a>'
    server.page("tool", f"<html><body>{link}\n{late}</body></html>")
    workspace.wants('tool = "pypi:tool"')
    assert said((await workspace.install())["tool"]) == "tool 1.0"


async def test_the_wheel_of_this_platform(server: Server, workspace: Workspace) -> None:
    machine = {"linux": f"manylinux_2_17_{HERE.arch}", "darwin": f"macosx_11_0_{HERE.arch}"}[HERE.os]
    program = {"tool-1.0.data/scripts/tool": script("native")}
    server.wheel("tool", "1.0", tag=f"py3-none-{machine}", more=program)
    server.wheel("tool", "1.0", tag="py3-none-win_amd64")
    server.wheel("tool", "1.1", tag="py3-none-win_amd64")
    workspace.wants('tool = "pypi:tool@1.0.*"')
    async with workspace.packages() as packages:
        locked = (await packages.lock())["tool"]
    assert {file.file for file in locked.nodes[0].files} == {
        f"tool-1.0-py3-none-{machine}.whl", "tool-1.0-py3-none-win_amd64.whl"
    }  # fmt: skip
    workspace.wants('tool = "pypi:tool@1.1"')
    with pytest.raises(PackageError, match="nothing for"):
        await workspace.install()


@pytest.mark.timeout(300)
async def test_crates_are_built_by_cargo(server: Server, workspace: Workspace) -> None:
    main = 'fn main() { println!("built {}", env!("CARGO_PKG_VERSION")); }'
    for version in ("0.1.0", "0.1.3", "0.2.0"):
        server.crate("tiny-tool", version, main)
    workspace.wants('tiny-tool = "crates:tiny-tool@^0.1"')
    commands = await workspace.install()
    assert said(commands["tiny-tool"]) == "built 0.1.3"
    assert any("building tiny-tool 0.1.3 by cargo, with your rights" in text for text in workspace.told)


@pytest.mark.timeout(300)
async def test_modules_are_built_by_go(server: Server, workspace: Workspace) -> None:
    main = 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("go") }\n'
    server.module("example.com/acme/hello", "v1.0.0", main)
    server.module("example.com/acme/hello", "v1.2.0", main)
    workspace.wants('hello = "go:example.com/acme/hello@v1"')
    commands = await workspace.install()
    assert said(commands["hello"]) == "go"
    assert workspace.packages().locked()["hello"].version == "v1.2.0"
    assert not any("has no checksum" in text for text in workspace.told)  # the database of sums knew it


async def test_a_module_that_the_database_of_sums_knows_otherwise(
    server: Server, workspace: Workspace
) -> None:
    server.module("example.com/acme/hello", "v1.0.0", "package main\nfunc main() {}\n", sum_="h1:AAAA")
    workspace.wants('hello = "go:example.com/acme/hello"')
    with pytest.raises(PackageError, match=r"and sums\.example says h1:AAAA"):
        await workspace.install()


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
async def test_releases(mode: str, server: Server, workspace: Workspace) -> None:
    end = mode.partition(":")[2]
    for tag in ("14.0.0", "14.1.1", "15.0.0"):
        folder = f"rg-{tag}/"
        files = {"rg": script(f"rg {tag}")}
        assets = {
            f"ripgrep-{tag}-{arch}-{system}.tar.{end}": tar(files, folder=folder, executable=True, mode=mode)
            for arch in NAMES
            for system in ("unknown-linux-musl", "apple-darwin", "pc-windows-msvc")
        }
        assets["checksums.txt"] = b"x"
        server.release("BurntSushi/ripgrep", tag, assets)
    server.release("BurntSushi/ripgrep", "15.1.0-rc1", {}, prerelease=True)
    workspace.wants('rg = "ripgrep@14"')
    commands = await workspace.install()
    assert said(commands["rg"], "x") == "rg 14.1.1 x"
    locked = workspace.packages().locked()["rg"]
    assert {key for file in locked.nodes[0].files for key in file.platforms} >= {
        "darwin-aarch64", "darwin-x86_64", "linux-aarch64-gnu", "linux-x86_64-gnu", "linux-x86_64-musl", "windows-x86_64"
    }  # fmt: skip


async def test_a_release_with_checksums_beside_it(server: Server, workspace: Workspace) -> None:
    from tests.pkg.servers import sha256

    name = f"tool_{HERE.os}_{NAMES[HERE.arch]}"
    data = script("tool").encode()
    server.release(
        "acme/tool", "v1.0", {name: data, "SHA256SUMS": f"{sha256(data)}  {name}\n".encode()}, digests=False
    )
    workspace.wants('tool = "github:acme/tool"')
    assert said((await workspace.install())["tool"], "a") == "tool a"
    assert not any("has no checksum" in text for text in workspace.told)
    server.release(
        "acme/tool",
        "v1.1",
        {name: data + b"#", "SHA256SUMS": f"{sha256(data)}  {name}\n".encode()},
        digests=False,
    )
    workspace.wants('tool = "github:acme/tool@1.1"')
    with pytest.raises(PackageError, match="and its source says sha256:"):
        await workspace.install()


async def test_urls_by_a_template(server: Server, workspace: Workspace) -> None:
    from tests.pkg.servers import sha256

    arch = {"x86_64": "x64", "aarch64": "arm64"}[HERE.arch]
    data = tar({"acme/bin/acme": script("acme"), "acme/README": "x"}, executable=True)
    server.put("/dist/index.json", json.dumps([{"version": "v1.0.0"}, {"version": "v1.2.0"}]))
    server.put(f"/dist/v1.2.0/acme-{HERE.os}-{arch}.tar.gz", data)
    server.put(f"/dist/v1.2.0/acme-{HERE.os}-{arch}.tar.gz.sha256", sha256(data))
    source = f"""
[resolvers.acme]
use = "url"
base = "{server.url}/dist/{{version}}/{{name}}-{{os}}-{{arch}}.tar.gz"

[resolvers.acme.config]
versions = "{server.url}/dist/index.json"
checksum = "{server.url}/dist/{{version}}/{{file}}.sha256"
words = {{ x86_64 = "x64", aarch64 = "arm64" }}
strip = 1
bins = ["acme"]
"""
    workspace.wants('acme = "acme:acme@1"', more=source)
    assert said((await workspace.install())["acme"], "b") == "acme b"
    assert [file.platforms for file in workspace.packages().locked()["acme"].nodes[0].files]


async def test_oci(server: Server, workspace: Workspace) -> None:
    for tag in ("1.0", "1.1"):
        server.image("tools/hi", tag, tar({"hi": script(f"hi {tag}")}, executable=True), f"hi-{tag}.tar.gz")
    host = server.url.removeprefix("http://")
    workspace.wants(f'hi = "oci:{host}/tools/hi@1"')
    assert said((await workspace.install())["hi"]) == "hi 1.1"


async def test_a_login_of_the_clients_is_used_and_stays_with_its_server(
    server: Server, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.npm("tool", "1.0.0")
    near = server.url.removeprefix("http:")
    (workspace.folder / ".npmrc").write_text(
        f"registry={server.url}/npm/\n{near}/npm/:_authToken=${{TOKEN}}\n"
    )
    monkeypatch.delenv("npm_config_registry")
    monkeypatch.setenv("TOKEN", "s3cret")
    workspace.wants('tool = "npm:tool"')
    await workspace.install()
    assert all(headers.get("authorization") == "Bearer s3cret" for headers in server.headers)
    kept = [
        path for path in (workspace.folder.parent).rglob("*") if path.is_file() and path.suffix != ".npmrc"
    ]
    assert not [path for path in kept if path.name != ".npmrc" and b"s3cret" in path.read_bytes()]


@pytest.mark.parametrize(
    ("variable", "asked", "hint"),
    [
        ("GITHUB_API_URL", "github:a/b", "GITHUB_API_URL"),
        ("CARGO_REGISTRIES_CRATES_IO_INDEX", "crates:a", "source.crates-io.replace-with"),
    ],
)
async def test_what_is_not_configured_says_what_to_do(
    variable: str,
    asked: str,
    hint: str,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.delenv(variable)
    monkeypatch.setenv("CARGO_HOME", str(tmp_path / "cargo"))
    workspace.wants(f'a = "{asked}"')
    with pytest.raises(PackageError) as caught:
        await workspace.install()
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "alias", "source", "name", "range_"),
    [
        ("ripgrep@14", "ripgrep", "github", "BurntSushi/ripgrep", "14"),
        ("npm:@acme/a.b@^1 || 2", "a.b", "npm", "@acme/a.b", "^1 || 2"),
        ("npm:@acme/a", "a", "npm", "@acme/a", ""),
        ("x=go:example.com/a/b@v1.0.0", "x", "go", "example.com/a/b", "v1.0.0"),
        ("pypi:black[d]@>=24,<25", "black", "pypi", "black[d]", ">=24,<25"),
        ("oci:127.0.0.1:5000/tools/rg@1", "rg", "oci", "127.0.0.1:5000/tools/rg", "1"),
    ],
)
def test_what_is_asked_for(text: str, alias: str, source: str, name: str, range_: str) -> None:
    assert Asked.parse(text) == Asked(alias, source, name, range_)


@pytest.mark.parametrize("text", ["", "nobody-knows", "npm:", ":a", "npm:a\nb", "../x", "x" * 2000])
def test_what_is_no_package(text: str) -> None:
    with pytest.raises(PackageError):
        Asked.parse(text)


def test_a_manifest_that_asks_for_what_is_none(workspace: Workspace) -> None:
    workspace.wants('a = "nobody-knows"', 'b = "npm:b"', more='[resolvers.x]\nuse = "ftp"\n')
    with pytest.raises(ManifestError) as caught:
        workspace.packages()
    assert [problem.line for problem in caught.value.problems] == [5, 9]


async def test_a_damaged_file_is_refused_before_it_is_unpacked(server: Server, workspace: Workspace) -> None:
    server.npm("tool", "1.0.0")
    workspace.wants('tool = "npm:tool"')
    await workspace.install()
    store = workspace.packages().store
    (digest,) = store.blobs
    path = store.blobs.path(digest)
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    shutil.rmtree(store.folder)
    with pytest.raises(Damaged):
        await workspace.install(offline=True)
