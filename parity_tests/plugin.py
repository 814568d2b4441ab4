"""The pytest plugin: ``pytest --pyargs parity_tests --checkpoint … --weights …``.

pytest loads it wherever the package is installed, so it imports large modules only when it uses
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from parity_tests.model import ParityReport

MISSING = "give --weights, and --checkpoint or --reference"
NAMES = pytest.StashKey[dict[str, tuple[str, ...]]]()
"""The gates and the layers that get a test each; empty if no weights were given."""
GATES = ("weights", "float64", "float32", "task")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("facenet parity", "weights against the original graph")
    group.addoption("--checkpoint", help="the original: a checkpoint, a frozen graph or det?.npy")
    group.addoption(
        "--reference", help="instead of --checkpoint: a record made by facenet capture (.h5)"
    )
    group.addoption("--weights", help="the weights to judge: .pt, .safetensors or .onnx")
    group.addoption(
        "--parity-probes",
        choices=("none", "blocks", "all"),
        default="blocks",
        help="layers that each get a test (default: blocks)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "parity: weights against the original graph")
    config.stash[NAMES] = _names(config)  # a UsageError raised here is shown as one line


@pytest.fixture(scope="session")
def parity_report(pytestconfig: pytest.Config) -> ParityReport:
    """Verify ``--weights`` once a session; skip the test if it was not given."""
    sides = parity_sides(pytestconfig)
    if sides is None:
        pytest.skip(MISSING)
    from facenet_common.errors import FacenetError
    from parity_tests.verify import Options, verify

    try:
        return verify(*sides, Options(probes=pytestconfig.getoption("--parity-probes")))
    except FacenetError as error:
        pytest.fail(str(error), pytrace=False)


def parity_sides(config: pytest.Config) -> tuple[str, str] | None:
    """Return the original and the weights that were given; None if neither was.

    Raises:
        pytest.UsageError: Two originals were given, or only one side.
    """
    checkpoint, reference, weights = (
        config.getoption(name) for name in ("--checkpoint", "--reference", "--weights")
    )
    if checkpoint and reference:
        raise pytest.UsageError("--checkpoint and --reference exclude each other: give one of them")
    original = checkpoint or reference
    if not original and not weights:
        return None
    if not original or not weights:
        raise pytest.UsageError(f"one side is missing: {MISSING}")
    return original, weights


def _names(config: pytest.Config) -> dict[str, tuple[str, ...]]:
    """Return the value of `NAMES`. Raises pytest.UsageError if the weights can't be read."""
    sides = parity_sides(config)
    if sides is None:
        return {"gate": (), "layer": ()}
    from converter.architectures import ARCHITECTURES
    from facenet_common.errors import FacenetError
    from parity_tests.open_sides import open_candidate
    from parity_tests.probes import probes

    try:
        candidate = open_candidate(sides[1])
    except FacenetError as error:
        raise pytest.UsageError(str(error)) from error
    which: Any = config.getoption("--parity-probes")
    layers = (
        ()
        if which == "none" or candidate.weights is None
        else probes(candidate.architecture, which)
    )
    known = ARCHITECTURES[candidate.architecture]
    return {
        "gate": GATES if known.is_embedding else GATES[:-1],
        "layer": tuple(probe.name for probe in layers),
    }
