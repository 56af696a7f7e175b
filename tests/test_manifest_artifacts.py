"""What `loop.toml` says of artifacts: references, and how they are refused."""

import pytest

from tests.manifests import problems, read

OCI = "[components.a]\npath = "


@pytest.mark.parametrize(
    "path",
    [
        "oci:registry.example/acme/site:1.2",
        "oci:localhost/a:1",
        "oci:reg:5000/a/b-c/d_e:v1.0.0-rc.1",
        f"oci:[::1]:5000/a/b@sha256:{'0' * 64}",
        f"oci-layout:../dist:1@sha256:{'a' * 64}",
    ],
)
def test_an_artifact_is_a_path_and_a_use(path: str) -> None:
    manifest = read(f'{OCI}"{path}"\n[providers.p]\nuse = "{path}"\nenv = {{ A = "b" }}')
    component, provider = manifest.components["a"], manifest.providers["p"]
    assert component.artifact is not None
    assert provider.artifact is not None
    assert (component.artifact.reference, provider.artifact.reference) == (path, path)
    assert (component.artifact.entry, component.path.exists()) == (None, False)
    # until `loop.lock` says what it is
    assert (provider.placement, provider.inside, provider.sandboxed) == ("oci", False, False)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("oci:registry.example/acme/site", 'say which of them: "oci:registry.example/acme/site:TAG"'),
        ("oci:registry.example/Acme/site:1", 'did you mean "oci:registry.example/acme/site:1"?'),
        ("oci:acme/site:1", "it begins with a registry"),
        ("oci:registry.example/acme/site@sha256:00", ""),
        ("oci:", "it begins with a registry"),
        ("oci-layout:dist", 'say which of them: "oci-layout:dist:TAG"'),
    ],
)
def test_what_names_no_artifact(path: str, hint: str) -> None:
    said = problems(f'{OCI}"{path}"\n[providers.p]\nuse = "{path}"')
    assert [line.partition(": expected")[0] for line in said] == [
        "loop.toml:2:8: components.a.path",
        "loop.toml:4:7: providers.p.use",
    ]
    assert all("REGISTRY/REPOSITORY:TAG" in line and hint in line for line in said)


def test_an_artifact_is_not_built() -> None:
    assert problems(f'{OCI}"oci:registry.example/a/b:1"\nbuild = "make"') == [
        'loop.toml:3:1: components.a: "path" is an artifact, which nothing here makes (remove it)'
    ]
