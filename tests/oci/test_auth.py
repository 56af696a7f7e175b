"""Logins: where they are found, how registries are shown them, and that they are told to nobody else."""

import base64
import json
import os
import traceback
import urllib.parse
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loop_kit.errors import PackageError
from loop_kit.oci.auth import HOST, PASSWORD, USER, Login, _challenges, find_login
from loop_kit.oci.blobs import Blobs
from loop_kit.oci.model import Descriptor
from loop_kit.oci.reference import Reference
from loop_kit.oci.registry import Registry
from loop_kit.oci.transfer import pull, push
from tests import registries
from tests.cli import loop
from tests.oci.artifacts import put_component
from tests.oci.faulty import Faulty, Request, faulty, says

SECRET = "s3cret word"
REGISTRY = "registry.example.com:5000"


def basic(user: str, secret: str) -> str:
    return base64.b64encode(f"{user}:{secret}".encode()).decode()


def gives(login: Login | None) -> Callable[[], Awaitable[Login | None]]:
    async def found() -> Login | None:
        return login

    return found


# ---- where they are found


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Writes a config of docker's, and returns the environment that names it."""

    def write(**content: Any) -> dict[str, str]:
        (tmp_path / "config.json").write_text(json.dumps(content))
        return {"DOCKER_CONFIG": str(tmp_path), "PATH": f"{tmp_path}:/usr/bin:/bin"}

    return write


async def test_the_environment_says_for_which_registry_its_login_is() -> None:
    own = {HOST: REGISTRY, USER: "ada", PASSWORD: SECRET, "HOME": "/nowhere"}
    assert await find_login(REGISTRY, own) == Login("ada", SECRET)
    assert await find_login("other.example.com", own) is None
    assert await find_login(REGISTRY, {"HOME": "/nowhere"}) is None
    for missing in (HOST, USER, PASSWORD):
        with pytest.raises(PackageError, match="some are set, and others are not") as told:
            await find_login(REGISTRY, {name: value for name, value in own.items() if name != missing})
        assert SECRET not in str(told.value) + str(told.value.hint)


async def test_the_config_of_docker(config: Callable[..., dict[str, str]]) -> None:
    auths = {
        f"https://{REGISTRY}/v2/": {"auth": basic("ada", SECRET)},
        "plain.example.com": {"username": "bob", "password": "word"},
        "token.example.com": {"auth": basic("", ""), "identitytoken": "refreshing"},
        "empty.example.com": {},
    }
    environ = config(auths=auths)
    assert await find_login(REGISTRY, environ) == Login("ada", SECRET)
    assert await find_login("plain.example.com", environ) == Login("bob", "word")
    assert await find_login("token.example.com", environ) == Login("", "refreshing", token=True)
    assert await find_login("empty.example.com", environ) is None
    assert await find_login("unknown.example.com", environ) is None
    home = {"HOME": str(Path(environ["DOCKER_CONFIG"]) / "home")}
    Path(home["HOME"]).mkdir()
    assert await find_login(REGISTRY, home) is None
    os.symlink(environ["DOCKER_CONFIG"], Path(home["HOME"]) / ".docker")
    assert await find_login(REGISTRY, home) == Login("ada", SECRET)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"auths": {REGISTRY: {"auth": SECRET}}}, "the login for registry.example.com:5000 is malformed"),
        ({"auths": {REGISTRY: {"auth": basic(SECRET, "")[:4]}}}, "is malformed"),
        ({"auths": {REGISTRY: {"auth": f"ä{SECRET}"}}}, "is malformed"),
        ({"auths": {REGISTRY: {"auth": 5}}}, "is malformed"),
        ({"auths": [SECRET]}, "auths is no object"),
        ({"credHelpers": {REGISTRY: "../evil"}}, "cannot be a program's name"),
        ({"credHelpers": {REGISTRY: "missing"}}, "kept by docker-credential-missing: No such file"),
    ],
)
async def test_a_config_that_is_malformed(
    content: dict[str, Any], said: str, config: Callable[..., dict[str, str]]
) -> None:
    with pytest.raises(PackageError, match=said) as told:
        await find_login(REGISTRY, config(**content))
    assert SECRET not in "".join(traceback.format_exception(told.value))


def helper(folder: Path, name: str, script: str) -> None:
    program = folder / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\nread -r registry\n{script}\n")
    program.chmod(0o755)


async def test_helpers_are_asked(config: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    answer = """[ "$1" = get ] && echo '{"ServerURL":"'$registry'","Username":"NAME","Secret":"word"}'"""
    helper(tmp_path, "own", answer.replace("NAME", "of-'$registry'"))
    helper(tmp_path, "all", answer.replace("NAME", "<token>"))
    helper(tmp_path, "none", "echo credentials not found in native keychain; exit 1")
    helper(tmp_path, "broken", f"echo {SECRET!r}; exit 3")
    helper(tmp_path, "silly", f"echo {SECRET!r}")
    environ = config(credHelpers={REGISTRY: "own", "none.example.com": "none"}, credsStore="all")
    assert await find_login(REGISTRY, environ) == Login(f"of-{REGISTRY}", "word")
    assert await find_login("none.example.com", environ) is None
    assert await find_login("other.example.com", environ) == Login("<token>", "word", token=True)
    for name, said in (
        ("broken", "docker-credential-broken exited with 3"),
        ("silly", "did not answer with a login"),
    ):
        with pytest.raises(PackageError, match=said) as told:
            await find_login(REGISTRY, config(credsStore=name))
        assert SECRET not in "".join(traceback.format_exception(told.value))


def test_challenges() -> None:
    text = 'Bearer realm="https://a.example/t?x=1,2",service="a \\"b\\"", scope=x , Basic realm="c"'
    assert _challenges([text]) == {
        "bearer": {"realm": "https://a.example/t?x=1,2", "service": 'a "b"', "scope": "x"},
        "basic": {"realm": "c"},
    }
    assert _challenges(["Negotiate", "basic"]) == {"negotiate": {}, "basic": {}}
    assert _challenges(["", '="', "\x00" * 100_000]) == {}


# ---- Basic, of a real registry


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registries.docker(tmp_path_factory.mktemp("guarded"), login=True) as host:
        yield host


async def test_a_registry_that_wants_a_password(guarded: str, tmp_path: Path) -> None:
    here = Blobs(tmp_path / "here")
    descriptor, _ = put_component(here)
    reference = Reference(guarded, "private/site", "1.0")
    login = Login(registries.USER, registries.PASSWORD)
    async with Registry(guarded, login=gives(login)) as registry:
        await push(here, descriptor, registry, reference)
    async with Registry(guarded, login=gives(login)) as registry:
        assert await pull(registry, reference, Blobs(tmp_path / "there")) == descriptor
    async with Registry(guarded, login=gives(None)) as registry:
        with pytest.raises(PackageError, match=f"{guarded} wants a login, and there is none for it") as told:
            await registry.resolve(reference)
        assert told.value.hint == f"`docker login {guarded}`, or set {HOST}={guarded}, {USER} and {PASSWORD}"
    async with Registry(guarded, login=gives(Login("ada", SECRET))) as registry:
        with pytest.raises(PackageError, match=f"{guarded} does not take the login of 'ada'") as told:
            await registry.resolve(reference)
        assert SECRET not in "".join(traceback.format_exception(told.value)) + repr(registry)


def test_the_command_line_has_it_of_the_environment(
    guarded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    refused = loop("copy", f"{guarded}/private/site:1.0", f"oci-layout:{tmp_path}/out")
    assert refused.returncode == 4
    assert f"error: {guarded} wants a login, and there is none for it\nhint: `docker login" in refused.stderr
    for name, value in ((HOST, guarded), (USER, registries.USER), (PASSWORD, SECRET)):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LOOP_TRACEBACK", "1")
    wrong = loop("copy", f"{guarded}/private/site:1.0", f"oci-layout:{tmp_path}/out")
    assert "does not take the login of 'ada'" in wrong.stderr
    assert SECRET not in wrong.stderr
    monkeypatch.setenv(PASSWORD, registries.PASSWORD)
    nothing = loop("copy", f"{guarded}/private/other:1.0", f"oci-layout:{tmp_path}/out")
    assert f"error: {guarded} does not have {guarded}/private/other:1.0" in nothing.stderr


# ---- tokens


class Tokens:
    """Rules of a registry that takes tokens alone, and of who gives them."""

    def __init__(self, server: Faulty, seconds: int = 300) -> None:
        self.server = server
        self.seconds = seconds
        self.given: list[tuple[str, dict[str, list[str]], str | None]] = []
        """Method, fields and `authorization` of who asked for a token."""
        self.good: dict[str, str] = {}
        server.rules = [self.give, self.guard]

    def give(self, request: Request) -> bool:
        if not request.path.startswith("/token"):
            return False
        text = urllib.parse.urlsplit(request.path).query
        if request.length:
            text = request.rfile.read(request.length).decode()
            request.taken = True
        fields = urllib.parse.parse_qs(text)
        self.given.append((request.command, fields, request.headers.get("authorization")))
        token = f"token-{len(self.given)}-{SECRET.replace(' ', '-')}"
        self.good[token] = " ".join(fields.get("scope", []))
        return request.json({"token": token, "expires_in": self.seconds})

    def guard(self, request: Request) -> bool:
        shown = (request.headers.get("authorization") or "").removeprefix("Bearer ")
        wanted = "pull" if request.command in ("GET", "HEAD") else "push"
        if wanted in self.good.get(shown, ""):
            return False
        realm = f"http://{self.server.host}/token"
        return request.answer(401, www_authenticate=f'Bearer realm="{realm}",service="tests",scope="ignored"')


@pytest.fixture
def server(docker_registry: str) -> Iterator[Faulty]:
    with faulty(docker_registry) as server:
        yield server


@pytest.fixture
def tokens(server: Faulty) -> Tokens:
    return Tokens(server)


async def round_trip(host: str, login: Login | None, folder: Path) -> Descriptor:
    here = Blobs(folder / "here")
    descriptor, _ = put_component(here)
    async with Registry(host, login=gives(login)) as registry:
        await push(here, descriptor, registry, Reference(host, "by/token", "1.0"))
        return await pull(registry, Reference(host, "by/token", "1.0"), Blobs(folder / "there"))


async def test_tokens_are_asked_for_what_is_done_and_used_again(tokens: Tokens, tmp_path: Path) -> None:
    await round_trip(tokens.server.host, Login("ada", SECRET), tmp_path)
    assert {method for method, _, _ in tokens.given} == {"GET"}
    assert {shown for _, _, shown in tokens.given} == {f"Basic {basic('ada', SECRET)}"}
    assert sorted(fields["scope"][0] for _, fields, _ in tokens.given) == [
        "repository:by/token:pull",
        "repository:by/token:pull,push",
    ]  # each once, though many asked at the same time
    assert tokens.given[0][1] == {
        "service": ["tests"],
        "account": ["ada"],
        "scope": ["repository:by/token:pull"],
    }
    # the password is shown to who gives tokens alone
    asked = [
        headers.get("authorization", "")
        for _, path, headers in tokens.server.asked
        if path.startswith("/v2/")
    ]
    assert asked
    assert not any("Basic" in shown for shown in asked)


async def test_without_a_login_there_may_be_tokens_too(tokens: Tokens, tmp_path: Path) -> None:
    await round_trip(tokens.server.host, None, tmp_path)
    assert {shown for _, _, shown in tokens.given} == {None}


async def test_a_token_that_others_are_had_by(tokens: Tokens, tmp_path: Path) -> None:
    await round_trip(tokens.server.host, Login("<token>", "refresh", token=True), tmp_path)
    method, fields, shown = tokens.given[0]
    assert (method, shown) == ("POST", None)
    assert fields["refresh_token"] == ["refresh"]
    assert (fields["grant_type"], fields["service"]) == (["refresh_token"], ["tests"])


async def test_a_token_that_is_taken_back_is_asked_for_anew(tokens: Tokens, tmp_path: Path) -> None:
    descriptor = await round_trip(tokens.server.host, None, tmp_path)
    host = tokens.server.host
    async with Registry(host, login=gives(None)) as registry:
        reference = Reference(host, "by/token", "1.0")
        assert await registry.resolve(reference) == descriptor
        tokens.good.clear()
        assert await registry.resolve(reference) == descriptor
        before = len(tokens.given)
        assert await registry.resolve(reference) == descriptor
        assert len(tokens.given) == before


@pytest.mark.parametrize(
    ("realm", "said"),
    [
        ("http://192.0.2.1/token", "leads to http://192.0.2.1:80, which is not asked"),
        ("https://10.0.0.1/token", "leads to https://10.0.0.1:443, which is not asked"),
        ("", "is no URL that can be asked|does not say where there are some"),
        ("http://a:b@localhost/", "is no URL that can be asked"),
    ],
)
async def test_who_gives_tokens_may_not_be_anywhere(server: Faulty, realm: str, said: str) -> None:
    server.rules = [says(401, www_authenticate=f'Bearer realm="{realm}"')]
    async with Registry(server.host, login=gives(Login("ada", SECRET))) as registry:
        with pytest.raises(PackageError, match=said):
            await registry.tags("any")
    assert len(server.asked) <= 3


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, b"{}", "does not take the login of 'ada'"),
        (418, b"{}", "answers 418 to who asks for a token"),
        (200, b"{}", "has not answered with a token"),
        (200, b"[]", "has not answered with a token"),
        (200, b'{"token":"a\\nb"}', "has not answered with a token"),
        (200, b"x" * (1 << 19), "who asks for a token has more than 262144 bytes"),
        (200, b"no", "is not JSON"),
    ],
)
async def test_what_is_no_token(server: Faulty, status: int, body: bytes, said: str) -> None:
    realm = f"http://{server.host}/token"
    server.rules = [
        lambda r: "/token" in r.path and r.answer(status, body),
        says(401, www_authenticate=f'Bearer realm="{realm}",service="x"'),
    ]
    async with Registry(server.host, login=gives(Login("ada", SECRET))) as registry:
        with pytest.raises(PackageError, match=said) as told:
            await registry.tags("any")
        assert SECRET not in "".join(traceback.format_exception(told.value))


async def test_a_registry_that_takes_no_token(server: Faulty) -> None:
    realm = f"http://{server.host}/token"
    server.rules = [
        lambda r: "/token" in r.path and r.json({"access_token": "abc"}),
        says(401, www_authenticate=f'Bearer realm="{realm}"'),
    ]
    async with Registry(server.host, login=gives(None)) as registry:
        with pytest.raises(PackageError, match="wants a login"):
            await registry.tags("any")
        assert len(server.asked) < 8
    server.rules = [says(401, www_authenticate="Negotiate")]
    async with Registry(server.host, login=gives(None)) as registry:
        with pytest.raises(PackageError, match="wants a login"):
            await registry.tags("any")


# ---- nobody else is told


async def test_a_registry_that_repeats_what_it_was_sent(server: Faulty) -> None:
    """It would have secrets in messages and logs."""

    def repeats(request: Request) -> bool:
        shown = request.headers.get("authorization")
        if shown is None:
            return request.answer(401, www_authenticate='Basic realm="x"')
        plain = base64.b64decode(shown.partition(" ")[2]).decode()
        return request.json({"errors": [{"code": shown, "message": f"{plain} {SECRET}"}]}, 400)

    server.rules = [repeats]
    login = Login("ada", SECRET)
    async with Registry(server.host, login=gives(login)) as registry:
        with pytest.raises(PackageError, match=r"answers 400: \*\*\* ada:\*\*\* \*\*\*$") as told:
            await registry.tags("any")
        text = "".join(traceback.format_exception(told.value))
        for each in (text, repr(told.value), repr(login), repr(registry), repr(registry._session.auth)):
            assert SECRET not in each
            assert basic("ada", SECRET) not in each


async def test_a_login_does_not_go_along_to_another_server(
    server: Faulty, docker_registry: str, tmp_path: Path
) -> None:
    data = b"elsewhere"
    here = Blobs(tmp_path)
    blob = Descriptor("application/x", here.add(data), len(data))
    with faulty(docker_registry) as storage:
        storage.rules = [says(200, data)]
        server.rules = [
            lambda r: "authorization" not in r.headers and r.answer(401, www_authenticate='Basic realm="x"'),
            says(307, location=f"http://{storage.host}/x"),
        ]
        async with Registry(server.host, login=gives(Login("ada", SECRET))) as registry:
            await registry.pull_blob("any", blob, Blobs(tmp_path / "there"))
        ((_, _, headers),) = storage.asked
        assert "authorization" not in {name.lower() for name in headers}
        storage.rules = [says(401, www_authenticate='Basic realm="x"')]
        async with Registry(server.host, login=gives(Login("ada", SECRET))) as registry:
            with pytest.raises(PackageError):
                await registry.pull_blob("any", blob, Blobs(tmp_path / "other"))
        assert not any(
            "authorization" in {name.lower() for name in headers} for _, _, headers in storage.asked
        )
