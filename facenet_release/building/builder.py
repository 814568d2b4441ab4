"""Who builds a release, and with what: for its provenance."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from facenet_common.installed import versions_of

LOCAL = "facenet-parity:builder/local"
PACKAGES = ("facenet-parity", "numpy", "onnx", "onnxruntime", "safetensors", "tensorflow", "torch")

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Builder:
    """Who builds: `id` is a URI, `invocation` names this run; `commit` is that of `repository`.

    `parameters` are the builder's own, which can't be asked for from outside.
    """

    id: str
    invocation: str | None = None
    repository: str | None = None
    commit: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


def builder_of(environment: Mapping[str, str]) -> Builder:
    """The builder that environment variables tell of: a workflow of GitHub Actions, or `LOCAL`.

    The variables are those that GitHub documents as set for each step, and not to be overwritten:
    https://docs.github.com/en/actions/reference/variables-reference. Its own attestations name
    the workflow in the same way.
    """
    get = environment.get
    server, repository = get("GITHUB_SERVER_URL"), get("GITHUB_REPOSITORY")
    workflow, run = get("GITHUB_WORKFLOW_REF"), get("GITHUB_RUN_ID")
    if get("GITHUB_ACTIONS") != "true" or not (server and repository and workflow and run):
        return Builder(LOCAL)
    commit = get("GITHUB_SHA", "")
    ref = get("GITHUB_REF")
    return Builder(
        id=f"{server}/{workflow}",
        invocation=f"{server}/{repository}/actions/runs/{run}"
        f"/attempts/{get('GITHUB_RUN_ATTEMPT', '1')}",
        repository=f"git+{server}/{repository}{f'@{ref}' if ref else ''}",
        commit=commit if _COMMIT.fullmatch(commit) else None,
        parameters={
            name: value
            for name, value in (
                ("event", get("GITHUB_EVENT_NAME")),
                ("runner", get("RUNNER_ENVIRONMENT")),  # github-hosted or self-hosted
            )
            if value
        },
    )


def versions() -> dict[str, str]:
    """Versions of Python and of those of `PACKAGES` that are installed, under their names."""
    return {"python": platform.python_version(), **versions_of(PACKAGES)}
