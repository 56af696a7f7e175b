"""What clients may ask, beyond what other suites do: pages, ranges, pieces, bounds, and who may not."""

import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loop_kit.store import Store
from tests import registries
from tests.children import until
from tests.registry.asking import INDEX, MANIFEST, Client, described, digest_of, half_sent, manifest


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with registries.ours(tmp_path_factory.mktemp("api"), "--delete", "--max-blob", "1MiB") as host:
        yield Client(host)


def test_tags_come_in_pages(there: Client) -> None:
    assert there.ask("GET", "/v2/paged/tags/list").code == "NAME_UNKNOWN"
    there.push_blob("paged", b"x")
    assert json.loads(there.ask("GET", "/v2/paged/tags/list").body) == {"name": "paged", "tags": []}
    wanted = sorted(["Z", "a", "b-1", "b.1", "b_1", "c" * 128, "latest", "0"])
    for tag in wanted:
        there.push("paged", tag, tag.encode())
    path, found = "/v2/paged/tags/list?n=3", []
    while path:
        got = there.ask("GET", path)
        found.append(json.loads(got.body)["tags"])
        link = got["link"]
        path = link[1 : link.index(">")] if link else ""
    assert [len(page) for page in found] == [3, 3, 2]
    assert [tag for page in found for tag in page] == wanted
    assert json.loads(there.ask("GET", "/v2/paged/tags/list?last=b").body)["tags"] == wanted[3:]
    assert json.loads(there.ask("GET", "/v2/paged/tags/list?n=0").body)["tags"] == []
    for wrong in ("-1", "x", "1" * 10, ""):
        assert there.ask("GET", f"/v2/paged/tags/list?n={wrong}").code == "PAGINATION_NUMBER_INVALID"


def test_repositories_come_in_pages(tmp_path: Path) -> None:
    wanted = ["a", "a-b", "a/b", "a/b/c", "b_c"]
    with registries.ours(tmp_path) as host:
        client = Client(host)
        assert json.loads(client.ask("GET", "/v2/_catalog").body) == {"repositories": []}
        for name in wanted:
            client.push_blob(name, b"x")
        path, found = "/v2/_catalog?n=2", []
        while path:
            got = client.ask("GET", path)
            found.append(json.loads(got.body)["repositories"])
            link = got["link"]
            path = link[1 : link.index(">")] if link else ""
    assert found == [wanted[:2], wanted[2:4], wanted[4:]]


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=10-19", 206, 10, 20),
        ("bytes=90-", 206, 90, 100),
        ("bytes=-10", 206, 90, 100),
        ("bytes=-1000", 200, 0, 100),
        ("bytes=50-1000", 206, 50, 100),
        ("bytes=0-", 200, 0, 100),
        ("bytes=100-", 416, 0, 0),
        ("bytes=9999999999999999999-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=20-10", 416, 0, 0),
        ("bytes=0-1,5-6", 200, 0, 100),
        ("bytes=-", 200, 0, 100),
        ("lines=1-2", 200, 0, 100),
        ("bytes=1e1-", 200, 0, 100),
    ],
)
def test_parts_of_a_blob(there: Client, asked: str, status: int, start: int, end: int) -> None:
    data = bytes(range(100))
    digest = there.push_blob("parts", data)
    got = there.ask("GET", f"/v2/parts/blobs/{digest}", range=asked)
    assert got.status == status
    if status == 416:
        assert got["content-range"] == "bytes */100"
        return
    assert got.body == data[start:end]
    assert got["content-range"] == (f"bytes {start}-{end - 1}/100" if status == 206 else None)
    head = there.ask("HEAD", f"/v2/parts/blobs/{digest}", range=asked)
    assert (head.status, head["content-length"], head.body) == (200, "100", b"")
    other = there.ask("GET", f"/v2/parts/blobs/{digest}", range=asked, if_range='"other"')
    assert (other.status, other.body) == (200, data)


def test_pieces_come_in_their_order(there: Client) -> None:
    data = bytes(range(250))
    location = there.begin("pieces")
    assert there.ask("PATCH", location, data[:100], content_range="0-99")["range"] == "0-99"
    for wrong in ("0-99", "50-149", "101-200", "100-99", "100", "a-b", "100-99999999999999999999"):
        got = there.ask("PATCH", location, data[100:200], content_range=wrong)
        assert (got.status, got["range"], got["location"]) == (416, "0-99", location), wrong
    assert there.ask("PATCH", location, data[100:200], content_range="100-198").code == "SIZE_INVALID"
    state = there.ask("GET", location)
    assert (state.status, state["range"]) == (204, "0-99")
    assert there.ask("PATCH", location, data[100:200]).status == 202
    digest = digest_of(data)
    assert there.ask("PUT", f"{location}?digest=sha256:x", b"").code == "DIGEST_INVALID"
    got = there.ask("PUT", f"{location}?digest={digest}", data[200:], content_range="200-249")
    assert (got.status, got["location"]) == (201, f"/v2/pieces/blobs/{digest}")
    assert there.ask("GET", f"/v2/pieces/blobs/{digest}").body == data
    assert there.ask("GET", location).code == "BLOB_UPLOAD_UNKNOWN"


def test_what_broke_off_goes_on(there: Client) -> None:
    data = b"abcdefgh" * 1000
    location = there.begin("broken")
    with half_sent(there.host, "PATCH", location, data[:3000], len(data)):
        pass
    until(lambda: there.ask("GET", location)["range"] == "0-2999")
    assert there.ask("PATCH", location, data[3000:], content_range="3000-7999").status == 202
    assert there.ask("PUT", f"{location}?digest={digest_of(data)}").status == 201


def test_one_request_at_a_time_has_an_upload(there: Client) -> None:
    """The second waits for the first, and then is not the next piece any more."""
    location = there.begin("twice")
    with ThreadPoolExecutor(8) as pool:
        pieces = [b"%d" % number * 1000 for number in range(8)]
        answers = list(
            pool.map(lambda data: there.ask("PATCH", location, data, content_range="0-999").status, pieces)
        )
    assert sorted(answers) == [202, *[416] * 7]
    won = pieces[answers.index(202)]
    assert there.ask("PUT", f"{location}?digest={digest_of(won)}").status == 201


def test_an_upload_is_of_a_repository_and_can_be_given_up(there: Client) -> None:
    location = there.begin("mine")
    assert there.ask("GET", location.replace("mine", "yours")).code == "BLOB_UPLOAD_UNKNOWN"
    assert there.ask("DELETE", location).status == 204
    assert there.ask("PATCH", location, b"x").code == "BLOB_UPLOAD_UNKNOWN"


def test_what_came_is_another(there: Client) -> None:
    wrong = digest_of(b"other")
    location = there.begin("wrong")
    assert there.ask("PUT", f"{location}?digest={wrong}", b"data").code == "DIGEST_INVALID"
    assert there.ask("GET", location).code == "BLOB_UPLOAD_UNKNOWN"
    got = there.ask("POST", f"/v2/wrong/blobs/uploads/?digest={wrong}", b"data")
    assert (got.status, got.code) == (400, "DIGEST_INVALID")
    for digest in (wrong, digest_of(b"data")):
        assert there.ask("HEAD", f"/v2/wrong/blobs/{digest}").status == 404
    document = manifest()
    there.push_blob("wrong", b"{}")
    got = there.ask("PUT", f"/v2/wrong/manifests/{wrong}", document, content_type=MANIFEST)
    assert got.code == "DIGEST_INVALID"


def test_sizes_are_bounded(there: Client) -> None:
    data = b"x" * ((1 << 20) + 1)
    got = there.ask("POST", f"/v2/big/blobs/uploads/?digest={digest_of(data)}", data)
    assert (got.status, got.code) == (413, "SIZE_INVALID")
    location = there.begin("big")
    assert there.ask("PATCH", location, data[:-1]).status == 202
    assert there.ask("PATCH", location, b"x").status == 413
    assert there.ask("PUT", f"{location}?digest={digest_of(data[:-1])}").status == 201
    there.push_blob("big", b"{}")
    large = manifest(annotations={"a": "x" * 60_000}) + b" " * (4 << 20)
    got = there.ask("PUT", "/v2/big/manifests/large", large, content_type=MANIFEST)
    assert (got.status, got.code) == (413, "SIZE_INVALID")


def test_a_manifest_has_all_that_it_names(there: Client) -> None:
    def put(document: bytes, media_type: str = MANIFEST) -> str:
        got = there.ask("PUT", "/v2/whole/manifests/1", document, content_type=media_type)
        return got.code if got.status != 201 else "taken"

    assert put(manifest(b"layer")) == "MANIFEST_BLOB_UNKNOWN"
    there.push_blob("whole", b"{}")
    there.push_blob("elsewhere", b"layer")
    assert put(manifest(b"layer")) == "MANIFEST_BLOB_UNKNOWN"  # it is another repository's
    there.push_blob("whole", b"layer")
    assert put(manifest(b"layer")) == "taken"
    listed = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [described(manifest(b"layer"), MANIFEST)]}
    assert put(json.dumps(listed).encode(), INDEX) == "taken"
    listed["manifests"] = [described(b"layer", MANIFEST)]  # there, and no manifest
    assert put(json.dumps(listed).encode(), INDEX) == "MANIFEST_BLOB_UNKNOWN"


@pytest.mark.parametrize(
    ("document", "media_type", "said"),
    [
        (b"", MANIFEST, "it is not JSON"),
        (b"[]", MANIFEST, "expected an object"),
        (b"{}", "", "no media type"),
        (b"{}", "text/html", "text/html is neither"),
        (b"{}", MANIFEST, "expected the key 'schemaVersion'"),
        (manifest(), INDEX, "$.mediaType: expected application/vnd.oci.image.index"),
        (manifest(manifests=[]), MANIFEST, "$.manifests: it could be read as"),
        (manifest().replace(b"layers", b"Layers"), MANIFEST, '"Layers" is read as "layers" by some'),
        (manifest(layers=[{}]), MANIFEST, "$.layers[0]: expected the key 'mediaType'"),
        (manifest(layers=[described(b"x") | {"digest": "../x"}]), MANIFEST, "$.layers[0].digest: expected a"),
        (
            manifest(layers=[described(b"x") | {"size": -1}]),
            MANIFEST,
            "$.layers[0].size: expected an integer",
        ),
        (manifest(annotations={"a": 1}), MANIFEST, "expected text"),
        (manifest()[:-1] + b',"layers":[]}', MANIFEST, 'the key "layers" twice'),
        (b"[" * 100_000, MANIFEST, "within each other"),
        (manifest(schemaVersion=1), MANIFEST, "$.schemaVersion: expected an integer from 2 to 2"),
    ],
)
def test_manifests_that_are_none(there: Client, document: bytes, media_type: str, said: str) -> None:
    there.push_blob("malformed", b"{}")
    got = there.ask("PUT", "/v2/malformed/manifests/1", document, content_type=media_type)
    assert (got.status, got.code) == (400, "MANIFEST_INVALID")
    assert said in json.loads(got.body)["errors"][0]["message"]


def test_referrers_come_in_pages_and_by_their_kind(there: Client) -> None:
    subject, _ = there.push("about", "1", b"the thing")
    wanted = {}
    for number in range(3):
        more = {"annotations": {f"{number}-{key}": "x" * 60_000 for key in range(20)}}
        kind = "application/odd" if number % 2 else "application/even+json"
        about = described(b"") | {"digest": subject}
        digest, _ = there.push("about", f"r{number}", b"r", subject=about, artifactType=kind, **more)
        wanted[digest] = kind
    first = json.loads(there.ask("GET", f"/v2/about/referrers/{subject}").body)["manifests"]
    assert len(first) == 1  # two have more than 2 MiB
    path, found = f"/v2/about/referrers/{subject}", {}
    while path:
        got = there.ask("GET", path)
        assert (got.status, got["content-type"]) == (200, INDEX)
        for each in json.loads(got.body)["manifests"]:
            assert len(each["annotations"]) == 20
            found[each["digest"]] = each["artifactType"]
        link = got["link"]
        path = link[1 : link.index(">")] if link else ""
    assert found == wanted
    got = there.ask("GET", f"/v2/about/referrers/{subject}?artifactType=application/even+json")
    assert got["oci-filters-applied"] == "artifactType"
    assert {e["artifactType"] for e in json.loads(got.body)["manifests"]} == {"application/even+json"}
    for digest in wanted:
        assert there.ask("DELETE", f"/v2/about/manifests/{digest}").status == 202
    assert json.loads(there.ask("GET", f"/v2/about/referrers/{subject}").body)["manifests"] == []


def test_a_manifest_goes_with_its_tags(there: Client) -> None:
    digest, document = there.push("going", "1", b"a layer")
    there.push("going", "2", b"a layer")
    there.push("going", "3", b"another")
    assert there.ask("DELETE", "/v2/going/manifests/2").status == 202
    assert there.ask("DELETE", "/v2/going/manifests/2").code == "MANIFEST_UNKNOWN"
    assert there.ask("GET", f"/v2/going/manifests/{digest}").body == document
    assert there.ask("DELETE", f"/v2/going/manifests/{digest}").status == 202
    assert there.ask("GET", "/v2/going/manifests/1").code == "MANIFEST_UNKNOWN"
    assert json.loads(there.ask("GET", "/v2/going/tags/list").body)["tags"] == ["3"]
    got = there.ask("PUT", f"/v2/going/manifests/{digest}", document, content_type=MANIFEST)
    assert got.status == 201  # what it needs is there still, and no tag comes back with it
    assert there.ask("HEAD", "/v2/going/manifests/1").status == 404


def test_a_blob_is_of_the_repositories_that_it_was_pushed_to(there: Client) -> None:
    digest = there.push_blob("first", b"shared")
    assert there.ask("HEAD", f"/v2/second/blobs/{digest}").status == 404
    mount = f"/v2/second/blobs/uploads/?mount={digest}"
    assert there.ask("POST", f"{mount}&from=third").status == 202
    assert there.ask("POST", f"{mount}&from=first").status == 201
    assert there.ask("GET", f"/v2/second/blobs/{digest}").body == b"shared"
    assert there.ask("DELETE", f"/v2/first/blobs/{digest}").status == 202
    assert there.ask("DELETE", f"/v2/first/blobs/{digest}").code == "BLOB_UNKNOWN"
    assert there.ask("GET", f"/v2/second/blobs/{digest}").body == b"shared"
    assert there.ask("POST", f"{mount.replace('second', 'third')}").status == 201  # wherever it is
    assert there.ask("POST", f"/v2/third/blobs/uploads/?mount={digest_of(b'no')}").status == 202


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "rebound.example"}, 421),
        ({"host": "rebound.example:5000"}, 421),
        ({"host": ""}, 421),
        ({"host": "127.0.0.1.nip.example"}, 421),
        ({"host": "[::1"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"host": "localhost:1"}, 200),
        ({"host": "LocalHost"}, 200),
        ({"host": "[::1]:5000"}, 200),
        ({"host": "a.localhost"}, 200),
        ({"sec-fetch-site": "none"}, 200),
    ],
)
def test_pages_of_a_browser_cannot_ask(there: Client, headers: dict[str, str], status: int) -> None:
    connection = http.client.HTTPConnection(there.host, timeout=30)
    connection.request("GET", "/v2/", headers=headers)
    response = connection.getresponse()
    assert response.status == status
    assert response.headers["x-content-type-options"] == "nosniff"
    connection.close()


def test_methods_and_paths_that_are_none(there: Client) -> None:
    for path in ("/", "/v1/", "/v2/x", "/v2/a/b/c", "/v2//tags/list", "/v2/_catalog/x", "/v2/tags/list"):
        assert there.ask("GET", path).status in (400, 404), path
    got = there.ask("POST", "/v2/a/manifests/1")
    assert (got.status, got["allow"]) == (405, "DELETE, GET, HEAD, PUT")
    assert there.ask("OPTIONS", "/v2/").status == 405


def test_nothing_is_deleted_or_written_unless_it_may(tmp_path: Path) -> None:
    with registries.ours(tmp_path) as host:
        digest, document = Client(host).push("kept", "1", b"x")
        for path in (f"manifests/{digest}", "manifests/1", f"blobs/{digest_of(b'x')}"):
            got = Client(host).ask("DELETE", f"/v2/kept/{path}")
            assert (got.status, got.code) == (405, "UNSUPPORTED")
            assert "without --delete" in got.body.decode()
    with registries.ours(tmp_path, "--read-only", "--delete") as host:
        client = Client(host)
        assert client.ask("GET", "/v2/kept/manifests/1").body == document
        for method, path in (
            ("PUT", "manifests/1"),
            ("POST", "blobs/uploads/"),
            ("DELETE", "manifests/1"),
            ("DELETE", f"blobs/{digest_of(b'x')}"),
        ):
            assert client.ask(method, f"/v2/kept/{path}", document).status == 405
    assert Store(tmp_path / "data").verify() == []


def test_what_is_damaged_on_the_disk_does_not_come_whole(tmp_path: Path) -> None:
    with registries.ours(tmp_path) as host:
        client = Client(host)
        layer = b"layer" * 500_000
        _, document = client.push("damaged", "1", layer)
        blobs = tmp_path / "data/blobs/sha256"
        for data in (layer, document):
            path = blobs / digest_of(data)[7:]
            path.chmod(0o600)
            path.write_bytes(data[:-1] + b"!")
        with pytest.raises(http.client.IncompleteRead):
            client.ask("GET", f"/v2/damaged/blobs/{digest_of(layer)}")
        got = client.ask("GET", "/v2/damaged/manifests/1")
        assert (got.status, got.code) == (500, "MANIFEST_UNVERIFIED")
        assert "is not sha256:" in (tmp_path / "log").read_text()
        # who pushes it again heals it
        client.push_blob("damaged", layer)
        assert client.ask("GET", f"/v2/damaged/blobs/{digest_of(layer)}").body == layer
        client.push("damaged", "1", layer)
        assert client.ask("GET", "/v2/damaged/manifests/1").body == document
