"""Right weights against the float32 gate, with every set of instructions that this processor has.

    python benchmarks/rounding.py REFERENCE CANDIDATE [REFERENCE CANDIDATE ...]
        [--counts 1 2 5 50] [--seeds 20] [--json]

Each pair is run in a process of its own for each combination of the variables that choose the
instructions of torch, of oneDNN and of TensorFlow, with one thread and with two. Printed is how
many times the scale of rounding (facenet_models/rounding.py) the answers are from float64: the gate
allows 4 in quadratic mean over the samples, and where not even the worst sample is beyond that, any
choice of samples passes. The last column is how many times TensorFlow's mean distance torch's is.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

HEAD = f"{'torch':<9}{'oneDNN':<13}{'TF oneDNN':<11}{'threads':<9}{'network':<21}{'passed':<9}"
MEASURES = ("torch", "worst sample", "tensorflow", "torch to TensorFlow")
PROGRAM = Path(__file__).parents[1] / "tests" / "support" / "rounding_ratios.py"


def environments(threads: Sequence[int], short: bool) -> Iterator[dict[str, str]]:
    """Yield environment variables for each set of instructions that this processor has."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.exists() else ""
    torch_has, onednn_has = ["default"], ["SSE41"]
    for flag, for_torch, for_onednn in (
        ("avx2", "avx2", "AVX2"),
        ("avx512f", "avx512", "AVX512_CORE"),
    ):
        if f" {flag} " in flags:
            torch_has.append(for_torch)
            onednn_has.append(for_onednn)
    rows = itertools.product(torch_has, onednn_has, ("0", "1"), threads)
    for row in zip(torch_has, onednn_has, "010", threads * 2, strict=False) if short else rows:
        yield {
            "ATEN_CPU_CAPABILITY": row[0],
            "ONEDNN_MAX_CPU_ISA": row[1],
            "TF_ENABLE_ONEDNN_OPTS": row[2],
            "OMP_NUM_THREADS": str(row[3]),
            "OMP_WAIT_POLICY": "passive",  # or threads wait busily for a core, if there are others
        }


def measured(
    sides: Sequence[Path], environment: dict[str, str], counts: Sequence[int], seeds: int, keep: str
) -> list[dict[str, Any]]:
    call = [sys.executable, str(PROGRAM), *map(str, sides), "--seeds", str(seeds), "--keep", keep]
    call += ["--counts", *map(str, counts), "--threads", environment["OMP_NUM_THREADS"]]
    done = subprocess.run(
        call, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True
    )
    rows: list[dict[str, Any]] = json.loads(done.stdout)["rows"]
    return rows


def summarised(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Summarise the runs of one network in one environment."""
    return {
        "network": rows[0]["network"],
        "passed": sum(row["status"] == "passed" for row in rows),
        "runs": len(rows),
        **{
            f"{name}, {word}": pick(row[name] for row in rows)
            for name in MEASURES
            for word, pick in (("least", min), ("most", max))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sides", type=Path, nargs="+", help="REFERENCE CANDIDATE, pair after pair")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 5, 50])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--short", action="store_true", help="Change all variables together.")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = []
    if not given.json:
        print(f"{HEAD}{'torch':<16}{'worst sample':<16}{'TensorFlow':<16}torch/TensorFlow")
    with tempfile.TemporaryDirectory() as keep:
        for environment in environments(given.threads, given.short):
            rows = measured(given.sides, environment, given.counts, given.seeds, keep)
            for _, group in itertools.groupby(rows, lambda row: row["network"]):
                row = {**environment, **summarised(list(group))}
                found.append(row)
                if not given.json:
                    print(_line(row), flush=True)
    if given.json:
        print(json.dumps(found, indent=2))


def _line(row: dict[str, Any]) -> str:
    one, two, three, threads = list(row.values())[:4]
    ranges = "".join(
        f"{row[f'{name}, least']:<4.2f} to {row[f'{name}, most']:<8.2f}" for name in MEASURES
    )
    passed = f"{row['passed']}/{row['runs']}"
    names = f"{one:<9}{two:<13}{three:<11}{threads:<9}{row['network']:<21}"
    return f"{names}{passed:<9}{ranges}"


if __name__ == "__main__":
    main()
