"""The builder and the versions that a provenance names."""

from __future__ import annotations

import numpy
import pytest

from facenet_release.building.assemble import LOCAL_BUILDER, builder_of, versions
from facenet_release.documents.attestations import Builder

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "octocat/hello",
    "GITHUB_WORKFLOW_REF": "octocat/hello/.github/workflows/release.yml@refs/tags/v1",
    "GITHUB_RUN_ID": "123",
    "GITHUB_RUN_ATTEMPT": "2",
    "GITHUB_SHA": "a" * 40,
    "GITHUB_REF": "refs/tags/v1",
    "GITHUB_EVENT_NAME": "push",
    "RUNNER_ENVIRONMENT": "github-hosted",
}


def test_a_workflow_of_github_is_a_builder() -> None:
    assert builder_of(GITHUB) == Builder(
        id="https://github.com/octocat/hello/.github/workflows/release.yml@refs/tags/v1",
        invocation="https://github.com/octocat/hello/actions/runs/123/attempts/2",
        repository="git+https://github.com/octocat/hello@refs/tags/v1",
        commit="a" * 40,
        parameters={"event": "push", "runner": "github-hosted"},
    )


@pytest.mark.parametrize("missing", [*list(GITHUB)[:5], "all"])
def test_a_builder_that_is_not_known_is_local(missing: str) -> None:
    environment = {} if missing == "all" else {k: v for k, v in GITHUB.items() if k != missing}
    assert builder_of(environment) == Builder(LOCAL_BUILDER)


def test_a_commit_must_look_like_one() -> None:
    assert builder_of(GITHUB | {"GITHUB_SHA": "main"}).commit is None


def test_versions_are_those_installed() -> None:
    assert versions()["numpy"] == numpy.__version__
    assert "python" in versions()
