"""`loop.lock`: what is written is read back, and what others keep in it stays."""

import multiprocessing
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loop_kit import lock as locks
from loop_kit.errors import ManifestError
from loop_kit.lock import Entry, Lock, changing, lock_of, read

DIGEST = f"sha256:{'0' * 64}"
ENTRY = Entry("oci:registry.example/acme/kv:1.2", DIGEST, 10, "component", "1.2", code=DIGEST)
WHOLE = Entry(
    "oci:registry.example/acme/index:2",
    DIGEST,
    4096,
    "provider",
    "2.0.1",
    signed_by="acme",
    serial=7,
    signatures=(f"sha256:{'2' * 64}",),
    exports=("acme:search/index@0.1.0",),
    imports=("loop:core/log@0.1.0", "loop:fsx/files@0.1.0"),
    grants={"loop:fsx": {"roots": {"data": {"mode": "ro"}}}},
    platforms={"linux/amd64": DIGEST, "linux/arm64": f"sha256:{'1' * 64}"},
)

digests = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
scalars = (
    st.booleans()
    | st.integers(-(10**9), 10**9)
    | words
    | st.floats(allow_nan=False)
    | st.dates()
    | st.datetimes()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words, inner, max_size=2),
    max_leaves=4,
)
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,6}", fullmatch=True)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    kind = draw(st.sampled_from(["component", "provider"]))
    listed = st.lists(words.filter(bool), max_size=3, unique=True).map(sorted).map(tuple)
    return Entry(
        draw(words.filter(bool)),
        draw(digests),
        draw(st.integers(0, 10**12)),
        kind,  # type: ignore[arg-type]
        draw(words),
        draw(digests) if kind == "component" else None,
        draw(words),
        draw(st.integers(0, 99)),
        draw(st.lists(digests, max_size=2, unique=True).map(sorted).map(tuple)),
        draw(listed),
        draw(listed),
        draw(st.dictionaries(words, values, max_size=2)),
        draw(st.dictionaries(st.sampled_from(["linux/amd64", "linux/arm/v7"]), digests)),
    )


others = st.dictionaries(
    words.filter(lambda name: name not in ("version", "components", "providers")), values, max_size=3
)
tables = st.dictionaries(names, entries(), max_size=2)


@settings(max_examples=(settings.default or settings()).max_examples // 4)  # each is a whole file
@given(tables, tables, others)
def test_any_lock_is_read_back_and_is_the_same_text_again(
    tmp_path_factory: pytest.TempPathFactory, components: Any, providers: Any, kept: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.lock"
    lock = Lock(components, providers, kept)
    path.write_text(lock.to_text(), "utf-8")
    found = read(path)
    assert found == lock
    assert found.to_text() == lock.to_text()


def test_the_text_is_for_people_to_compare() -> None:
    lock = Lock({"b": ENTRY, "a": ENTRY}, {"index": WHOLE}, {"tools": {"ripgrep": {"version": "14.1.0"}}})
    assert (
        lock.to_text()
        == f"""\
# Made by `loop pull` and `loop update`, which write it anew: what the artifacts of the manifest beside it are.
# Keep it with the manifest. It is not to be edited.
version = 1

[components.a]
reference = "oci:registry.example/acme/kv:1.2"
digest = "{DIGEST}"
size = 10
kind = "component"
version = "1.2"
code = "{DIGEST}"

[components.b]
reference = "oci:registry.example/acme/kv:1.2"
digest = "{DIGEST}"
size = 10
kind = "component"
version = "1.2"
code = "{DIGEST}"

[providers.index]
reference = "oci:registry.example/acme/index:2"
digest = "{DIGEST}"
size = 4096
kind = "provider"
version = "2.0.1"
signed-by = "acme"
serial = 7
signatures = ["sha256:{"2" * 64}"]
exports = ["acme:search/index@0.1.0"]
imports = ["loop:core/log@0.1.0", "loop:fsx/files@0.1.0"]
grants = {{ loop:fsx = {{ roots = {{ data = {{ mode = "ro" }} }} }} }}
platforms = {{ linux/amd64 = "{DIGEST}", linux/arm64 = "sha256:{"1" * 64}" }}

[tools.ripgrep]
version = "14.1.0"
""".replace("loop:fsx =", '"loop:fsx" =')
        .replace("linux/amd64 =", '"linux/amd64" =')
        .replace("linux/arm64 =", '"linux/arm64" =')
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "version = 1\n[components.a]\ndigset = 'x'",
            'x.lock:3:1: components.a: unknown key "digset" (did you mean "digest"?)',
        ),
        ("version = 1\n[components.a]", 'x.lock:2:13: components.a: missing key "reference"'),
        (
            "version = 1\n[providers.a]\ndigest = 'sha256:00'",
            "x.lock:3:10: providers.a.digest: expected a digest",
        ),
        (
            "version = 1\n[providers.a]\nkind = 'wheel'",
            'providers.a.kind: expected "component" or "provider"',
        ),
        ("version = 1\n[providers.a.platforms]\nlinux = 'x'", "expected a platform such as linux/amd64"),
        ("version = 1\n[components.a]\nkind = 'component'", 'a component has "code"'),
        ("version = 2", "x.lock:1:1: version: is of a newer loop-kit"),
        ("[components]", 'missing key "version"'),
        ("version = [", "x.lock:1:12: not valid TOML"),
        ("version = 1\n" + "#" * (1 << 20), "larger than"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.lock").write_text(text)
    with pytest.raises(ManifestError) as caught:
        read(tmp_path / "x.lock", shown="x.lock")
    assert said in str(caught.value)


def test_one_that_is_not_there_is_empty_and_is_not_made_for_nothing(tmp_path: Path) -> None:
    path = lock_of(tmp_path / "loop.toml")
    assert path == tmp_path / "loop.lock"
    assert read(path) == Lock()
    with changing(path) as change:
        assert not change.write(Lock())
    assert list(tmp_path.iterdir()) == []


def test_what_has_not_changed_is_not_touched_and_what_others_keep_stays(tmp_path: Path) -> None:
    path = tmp_path / "loop.lock"
    path.write_text("# mine\nversion = 1\nmine = 2026-01-01\n\n[tools]\nripgrep = { version = '14' }\n")
    kept = {"mine": tomllib.loads("d = 2026-01-01")["d"], "tools": {"ripgrep": {"version": "14"}}}
    with changing(path) as change:
        assert change.lock.others == kept
        assert change.write(Lock({"a": ENTRY}, {}, change.lock.others))
        assert not change.write(change.lock)
    assert tomllib.loads(path.read_text())["tools"] == kept["tools"]
    assert read(path) == Lock({"a": ENTRY}, {}, kept)
    assert [item.name for item in tmp_path.iterdir()] == ["loop.lock"]


def test_one_that_cannot_be_written_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "loop.lock"
    path.write_text(Lock({"a": ENTRY}).to_text())

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(locks, "put", full)
    with (
        changing(path) as change,
        pytest.raises(ManifestError, match="cannot be written: No space left on device"),
    ):
        change.write(Lock({"b": ENTRY}))
    assert read(path) == Lock({"a": ENTRY})


def _add(path: Path, name: str) -> None:
    with changing(path) as change:
        change.write(Lock({**change.lock.components, name: ENTRY}, change.lock.providers, change.lock.others))


def test_of_many_who_write_at_once_nobody_loses_an_entry(tmp_path: Path) -> None:
    path = tmp_path / "loop.lock"
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        pool.starmap(_add, [(path, f"c{number}") for number in range(16)])
    assert sorted(read(path).components) == sorted(f"c{number}" for number in range(16))
