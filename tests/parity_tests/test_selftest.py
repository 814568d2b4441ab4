"""The self-test notices every defect, says who noticed it, and would tell if nobody did."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from support.tf_checkpoints import write_checkpoint

from converter.convert import Request, convert
from converter.demo import value
from facenet_common.errors import ParityError
from parity_tests.cli import SELF_TEST_TAKES, verify_command
from parity_tests.open_sides import FeedOptions, open_candidate, open_live
from parity_tests.selftest import run as module
from parity_tests.selftest.mutants import Mutant
from parity_tests.selftest.report import passed, text, to_json
from parity_tests.selftest.run import Outcome, reduce_feeds, selftest

torch = pytest.importorskip("torch", reason='needs torch: pip install "facenet-parity[parity]"')
pytestmark = pytest.mark.tensorflow

NETS = [(1, "pnet"), (2, "rnet"), (3, "onet")]
# Pools whose input has a size that leaves nothing to round: these networks take one size only.
NOTHING_TO_ROUND = {"pool2 rounds up", "pool3 rounds up"}


# Of defects in numbers that no file of weights holds.
NUMBERS = ("epsilon", "residual scale", "stride", "padding", "pool rounding")


def outcomes(
    reference: Path,
    candidate: Path,
    limit: int | None = None,
    only: Callable[[Mutant], bool] | None = None,
) -> list[Outcome]:
    side = open_live(str(reference), FeedOptions())
    reduce_feeds(side)
    return list(selftest(side, open_candidate(str(candidate)), limit, only=only))


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(verify_command, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.parametrize(("number", "name"), NETS)
def test_every_mutant_of_mtcnn_is_killed(reference_dir: Path, number: int, name: str) -> None:
    found = outcomes(
        reference_dir / "mtcnn" / f"det{number}.npy", reference_dir / "published" / f"{name}.pt"
    )
    assert len(found) >= 40
    assert {o.what for o in found if o.equivalent} <= NOTHING_TO_ROUND
    assert [o.what for o in found if "float64" not in o.killed_by and not o.equivalent] == []
    assert [o.what for o in found if not o.named_rightly and not o.equivalent] == []
    assert {"stride", "padding", "pool rounding"} <= {o.kind for o in found}
    ulps = [o for o in found if o.kind == "one ulp"]
    assert ulps
    assert all(o.killed_by == ("weights", "float64") for o in ulps)  # invisible in float32


@pytest.fixture(scope="module")
def pair(tensorflow: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint with its graph, and its conversion."""
    del tensorflow
    folder = tmp_path_factory.mktemp("selftest") / "20180402-114759"
    write_checkpoint(folder, 128, 0, fill=value)
    out = folder.parent / "vggface2.pt"
    convert(Request(str(folder), str(out)))
    return folder, out


def test_some_mutants_of_inception_resnet(pair: tuple[Path, Path], tmp_path: Path) -> None:
    report = tmp_path / "selftest.json"
    result = run(*pair, "--self-test", "--mutants", 25, "--json", report)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("PASSED: 25 of 25 defects were found")
    found = json.loads(report.read_text())
    assert found["schema"] == "facenet-parity/self-test/2"
    assert found["total"]["mutants"] == found["total"]["killed"] == 25
    assert found["total"]["float64"] >= 24
    assert found["total"]["named"] >= 0.95 * found["total"]["nameable"]


def test_numbers_that_no_weight_file_holds_are_named(pair: tuple[Path, Path]) -> None:
    """Epsilons, scales, strides and paddings of every twelfth layer, and every pool."""
    seen = Counter[str]()

    def some(mutant: Mutant) -> bool:
        seen[mutant.kind] += 1
        number = seen[mutant.kind] % 12 == 1 or mutant.kind == "pool rounding"
        return mutant.kind in NUMBERS and number

    found = outcomes(*pair, only=some)
    assert {o.kind for o in found} == {*NUMBERS}
    assert len(found) >= 35
    assert [o.what for o in found if "float64" not in o.killed_by] == []
    assert [(o.what, o.named) for o in found if not o.named_rightly] == []


def test_a_defect_that_changes_nothing_is_said_to_be_one(pair: tuple[Path, Path]) -> None:
    (found,) = outcomes(*pair, only=lambda mutant: "L2 epsilon" in mutant.what)
    assert found.equivalent
    assert not found.killed_by
    assert not passed([found])  # nothing was noticed
    other = replace(found, what="a", killed_by=("float64",), equivalent=False)
    assert passed([found, other])
    said = text([found, other])
    assert said.startswith("PASSED: 1 of 2 defects were found; 1 changes nothing\n")
    assert "L2 epsilon 1e-12 for 1e-5: the layer's output is the same in every bit\n" in said
    assert to_json([found, other])["total"]["equivalent"] == 1


def test_a_gate_that_sees_nothing_is_told_on(
    reference_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A judge that passes everything in float64 must show as such."""
    real = module.float64_gate

    def blind(expected: np.ndarray, found: np.ndarray) -> Any:
        return replace(real(expected, found), status="passed")

    monkeypatch.setattr(module, "float64_gate", blind)
    found = outcomes(reference_dir / "mtcnn" / "det1.npy", reference_dir / "published" / "pnet.pt")
    ran = [o for o in found if np.isfinite(o.moved)]
    assert len(ran) > 20
    assert not any("float64" in o.killed_by for o in ran)
    assert all(o.why for o in ran)


def test_a_wrong_candidate_is_refused(reference_dir: Path, tmp_path: Path) -> None:
    state = torch.load(reference_dir / "published" / "pnet.pt", weights_only=True)
    state["conv1.bias"][0] += 1
    torch.save(state, tmp_path / "wrong.pt")
    with pytest.raises(ParityError, match="does not pass"):
        outcomes(reference_dir / "mtcnn" / "det1.npy", tmp_path / "wrong.pt")


def test_the_network_is_as_before_afterwards(reference_dir: Path) -> None:
    """Each mutant is judged alone: the same twice, in whatever company."""
    sides = reference_dir / "mtcnn" / "det2.npy", reference_dir / "published" / "rnet.pt"
    every = {o.what: o for o in outcomes(*sides)}
    assert all(every[o.what] == o for o in outcomes(*sides, limit=10))


def test_a_survivor_fails_the_self_test() -> None:
    killed = Outcome("one ulp", ("conv1",), "a", ("weights",), 1e-9, "conv1", True)
    living = replace(killed, what="b\x1b[2J", killed_by=(), why="the outputs change by 1e-14 only")
    assert passed([killed])
    assert not passed([killed, living])
    assert not passed([])
    assert text([killed, living]).startswith("FAILED: 1 of 2")
    assert "killed by NOTHING" in text([killed, living])
    assert "\x1b" not in text([killed, living])
    assert text([killed], partial=True).startswith("PARTIAL")
    assert not to_json([killed], partial=True)["passed"]
    endless = to_json([replace(killed, moved=float("inf"))])
    assert json.loads(json.dumps(endless, allow_nan=False))["mutants"][0]["moved"] is None


def test_mutants_go_with_the_self_test_only() -> None:
    assert run("a", "b", "--mutants", 3).exit_code == 2


@pytest.mark.parametrize(
    "option",
    [
        "--junit=a.xml",
        "--markdown=a.md",
        "--html=a.html",
        "--images=faces",
        "--count=5",
        "--batch=32",  # the default too: who gives it expects that it is heeded
        "--probes=blocks",
        "--device=cuda",
        "--dtype=float16",
        "--compile",
    ],
)
def test_what_the_self_test_does_not_heed_is_refused(option: str) -> None:
    result = run("a", "b", "--self-test", option)
    assert result.exit_code == 2
    assert "--self-test takes only --seed, --step, --mutants and --json" in result.stderr
    assert f"found:    {option.partition('=')[0]}\n" in result.stderr


def test_the_self_test_heeds_options_that_there_are() -> None:
    assert set(SELF_TEST_TAKES) <= {parameter.name for parameter in verify_command.params}


def test_what_the_self_test_heeds_is_not_refused(tmp_path: Path) -> None:
    options = ("--seed=1", "--step=0", "--mutants=1", f"--json={tmp_path / 'a.json'}")
    result = run(tmp_path / "absent", "b", "--self-test", *options)
    assert result.exit_code != 0
    assert "takes only" not in result.stderr
