"""The tests that `make test-quick` leaves out, as data: all that take longer than about a second.

A test gets the mark `slow` if it is marked `tensorflow`, uses one of `FIXTURES`, or lies in one of
`PLACES`. `pytest -m "not slow"` leaves these out, and does not even import modules of `PLACES`.
"""

from __future__ import annotations

from collections.abc import Collection

MARK = "slow"
QUICK = f"not {MARK}"

# Fixtures that start TensorFlow or a server, build a release, or fill and write whole networks.
FIXTURES = frozenset(
    {
        "address",
        "candidate_128",
        "golden_128",
        "golden_512",
        "golden_state",
        "locked",
        "registry",
        "release_copy",
        "server",
        "small_release",
        "stand_in_weights",
        "tensorflow",
    }
)
# Folders, modules, and tests by the beginning of their id.
PLACES = (
    "tests/docs/test_site.py",
    "tests/examples",
)


def is_slow(node: str, marks: Collection[str] = (), fixtures: Collection[str] = ()) -> bool:
    """Return whether the test of that id, with these marks and fixtures, is slow.

    Example:
        >>> is_slow("tests/examples/test_examples.py::test_render")
        True
        >>> is_slow("tests/converter/test_plan.py::test_plan", fixtures=["tmp_path"])
        False
    """
    return "tensorflow" in marks or not FIXTURES.isdisjoint(fixtures) or node.startswith(PLACES)
