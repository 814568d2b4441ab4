"""How many times the scale of rounding right weights are from float64, for several feeds.

    python tests/support/rounding_ratios.py REFERENCE CANDIDATE --counts 1 2 5 --seeds 20

It prints one line of JSON. It is a program, because the variables that choose instructions and
libraries are read when TensorFlow and torch start.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from parity_tests.batches import Batches
from parity_tests.feeds import standard_feeds
from parity_tests.gates import float32_gate
from parity_tests.open_sides import FeedOptions, open_candidate, open_live


def ratios(
    reference: Path, candidate: Path, counts: Sequence[int], seeds: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """A row for each count and seed: what the float32 gate says of the candidate and TensorFlow."""
    side, batches = open_live(str(reference), FeedOptions()), Batches(8)
    with open_candidate(str(candidate)).runner() as runner:
        for count in counts:
            for seed in seeds:
                side.feeds = standard_feeds(side.architecture, count, seed)
                expected, oracle = side.answers(batches), side.oracle(batches)
                samples, scale = [""] * len(oracle), side.rounding()
                found = batches.all(runner, side.feeds)
                gate, theirs = (
                    float32_gate(expected, rows, oracle, samples, scale=scale)
                    for rows in (found, expected)
                )
                yield {
                    "count": count,
                    "seed": seed,
                    "status": gate.status,
                    "findings": [str(finding) for finding in gate.findings],
                    "torch": gate.details["times_rounding"],
                    "tensorflow": theirs.details["times_rounding"],
                    "old": float(gate.details["candidate_to_oracle"])
                    / float(gate.details["reference_to_oracle"]),
                }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=Path)
    parser.add_argument("candidate", type=Path)
    parser.add_argument("--counts", type=int, nargs="+", default=[2])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    rows = list(
        ratios(arguments.reference, arguments.candidate, arguments.counts, range(arguments.seeds))
    )
    capability = torch.backends.cpu.get_cpu_capability()
    print(json.dumps({"torch's instructions": capability, "rows": rows}))


if __name__ == "__main__":
    main()
