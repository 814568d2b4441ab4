"""``convert --verify``: the gates of `facenet verify` on what was just written, with a few images.

The converter imports nothing of this package. It finds `verify_conversion` as the entry point
``verify`` of the group ``facenet.hooks``, and calls it after writing the weights and before they
get their final name.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from converter.architectures import ARCHITECTURES
from facenet_common.errors import ParityError
from facenet_common.progress import Progress
from parity_tests.frameworks import tensorflow, torch
from parity_tests.gates import FLOAT32_TOLERANCE
from parity_tests.model import ParityReport
from parity_tests.open_sides import FeedOptions
from parity_tests.report.json_document import to_json
from parity_tests.verify import Options, verify

IMAGES = 5  # of noise, as facenet-pytorch's own comparison feeds
NAMED = 3  # findings of a gate in the summary


@dataclass(frozen=True)
class ConversionParity:
    """The verdict on a conversion: a `converter.convert.ParityResult`."""

    report: ParityReport

    @property
    def passed(self) -> bool:
        """Whether every gate passed."""
        return self.report.passed

    def to_json(self) -> dict[str, object]:
        """Return the parity report as `facenet verify --json` writes it."""
        return to_json(self.report)

    def summary(self) -> str:
        """Return one sentence: distances, gates, which graph ran, versions."""
        report = self.report
        distances = [distance for _, distance, _ in report.embeddings]
        near = sum(distance < FLOAT32_TOLERANCE for distance in distances)
        what = "embeddings" if ARCHITECTURES[report.architecture].is_embedding else "answers"
        farthest = f", the farthest {np.max(distances):.3g}" if distances else ""
        parts = [
            f"{'passed' if self.passed else 'FAILED'}: {near} of {len(distances)} {what} closer "
            f"than {FLOAT32_TOLERANCE:g} (L2){farthest}"
        ]
        for gate in report.gates:
            if gate.status in ("failed", "errored"):
                parts.append(f"gate {gate.name} {gate.status}: {gate.summary}")
                parts += map(str, gate.findings[:NAMED])
        passed = [gate.name for gate in report.gates if gate.status == "passed"]
        parts += [f"gates passed: {', '.join(passed)}"] if passed else []
        names = [name for name in ("TensorFlow", "torch") if name in report.environment]
        versions = " against ".join(f"{name} {report.environment[name]}" for name in names)
        return "; ".join([*parts, ", ".join(filter(None, (report.reference, versions)))])


def verify_conversion(
    checkpoint: str,
    weights: Path,
    *,
    step: int | None = None,
    output: Path | None = None,
    progress: Progress | None = None,
) -> ConversionParity:
    """Run `checkpoint` in TensorFlow and `weights` in PyTorch on 5 images of noise, and judge.

    Args:
        checkpoint: A checkpoint, frozen graph or ``.npy`` file, named as for `convert`.
        weights: The PyTorch file, under whatever name.
        step: Of a checkpoint folder.
        output: What the report calls `weights`, if their name is a temporary one.
        progress: Notified of each stage.

    Raises:
        MissingPackageError: TensorFlow or torch is not installed.
        ParityError: A gate could not be judged. Weights that differ are no error: see
            `ConversionParity.passed`.

    Examples:
        >>> verify_conversion("20180402-114759", Path("vggface2.pt")).passed  # doctest: +SKIP
        True
    """
    progress = progress or Progress()
    progress.note("starting TensorFlow and torch")
    tensorflow()
    torch()
    feeds = FeedOptions(count=IMAGES, kinds=("noise",))
    options = Options(feeds=feeds, step=step, probes="none")
    report = verify(checkpoint, str(weights), options, progress)
    if report.partial:
        raise KeyboardInterrupt
    failed = any(gate.status == "failed" for gate in report.gates)
    for gate in report.gates:
        if gate.status == "errored" and not failed:
            raise ParityError(
                f"the gate {gate.name} can't be judged",
                file=checkpoint,
                found=gate.summary,
                next_step="leave out --verify: the result is compared bit for bit all the same",
            )
    output = output or weights
    again = ["facenet", "verify", checkpoint, str(output)]
    again += [] if step is None else ["--step", str(step)]
    return ConversionParity(replace(report, candidate=str(output), command=shlex.join(again)))
