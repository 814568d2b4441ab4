"""How many times the scale of rounding right weights are from float64, for several feeds.

    python tests/support/rounding_ratios.py REFERENCE CANDIDATE [REFERENCE CANDIDATE ...] --seeds 20

It prints one line of JSON. It is a program, because the variables that choose instructions and
libraries are read when TensorFlow and torch start.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.batches import Batches
from parity_tests.feeds import standard_feeds
from parity_tests.gates import float32_gate, l2
from parity_tests.open_sides import FeedOptions, open_candidate, open_live
from parity_tests.reference.live import LiveReference


def ratios(reference: Path, candidate: Path, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """A row for each count and seed: what the float32 gate says of the candidate and TensorFlow."""
    side, batches = open_live(str(reference), FeedOptions()), Batches(8)
    with open_candidate(str(candidate)).runner() as runner:
        for count in given.counts:
            for seed in range(given.seeds):
                side.feeds = standard_feeds(side.architecture, count, seed)
                kept = given.keep and given.keep / f"{side.architecture}-{count}-{seed}.npz"
                expected, (oracle, scale) = side.answers(batches), exact(side, batches, kept)
                found = batches.all(runner, side.feeds)
                gate, theirs = (
                    float32_gate(expected, rows, oracle, [""] * len(oracle), scale=scale)
                    for rows in (found, expected)
                )
                yield {
                    "network": side.architecture,
                    "count": count,
                    "seed": seed,
                    "status": gate.status,
                    "findings": [str(finding) for finding in gate.findings],
                    "torch": gate.details["times_rounding"],
                    "tensorflow": theirs.details["times_rounding"],
                    "worst sample": float((l2(oracle, found) / scale).max()),
                    "torch to TensorFlow": float(gate.details["candidate_to_oracle"])
                    / float(gate.details["reference_to_oracle"]),
                }


def exact(side: LiveReference, batches: Batches, kept: Path | None) -> tuple[np.ndarray, ...]:
    """The float64 answers and the scale, from `kept` if it is there: no processor matters."""
    if kept is not None and kept.exists():
        with np.load(kept) as arrays:
            return arrays["oracle"], arrays["scale"]
    oracle, scale = side.oracle(batches), side.rounding()
    if kept is not None:
        np.savez(kept, oracle=oracle, scale=scale)
    return oracle, scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sides", type=Path, nargs="+")
    parser.add_argument("--counts", type=int, nargs="+", default=[2])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="Folder for what no processor changes.")
    given = parser.parse_args()
    import torch

    torch.set_num_threads(given.threads)
    pairs = zip(given.sides[::2], given.sides[1::2], strict=True)
    rows = [row for pair in pairs for row in ratios(*pair, given)]
    capability = torch.backends.cpu.get_cpu_capability()
    print(json.dumps({"torch's instructions": capability, "rows": rows}))


if __name__ == "__main__":
    main()
