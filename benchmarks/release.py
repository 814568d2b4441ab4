"""Time ``facenet release`` on five models against ``convert`` and ``verify`` one by one.

    python benchmarks/release.py [--runs 3] [--json]

The two large models are demo checkpoints of the published sizes. Whole processes are timed,
imports included, in turn, so that a busy machine disturbs all alike. Printed are medians, the ratio
of a build to the sum of one ``convert`` and one ``verify`` for each model, and the speed at which
``check`` goes through the release beside that of ``sha256sum``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from convert import FACENET, python, timed


def prepare(folder: Path) -> dict[str, str]:
    """Write checkpoints, det*.npy and a recipe; return the source of each model by name."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.small_release import write_all

    return write_all(folder)


def seconds(folder: Path, *command: str) -> float:
    """Return the seconds that a ``facenet`` command takes in `folder`."""
    return timed(python(FACENET, *command), folder)[0]


def one_by_one(folder: Path, sources: dict[str, str]) -> float:
    """Convert and verify every model, each command in a process of its own."""
    total = 0.0
    for model, source in sources.items():
        out = f"alone/{model}.pt"
        (folder / "alone").mkdir(exist_ok=True)
        total += seconds(folder, "convert", "--checkpoint", source, "--out", out)
        total += seconds(folder, "verify", source, out)
    shutil.rmtree(folder / "alone")
    return total


def measure(folder: Path, runs: int) -> dict[str, float]:
    sources = prepare(folder)
    taken: dict[str, list[float]] = {name: [] for name in ("alone", "build", "check", "sha256sum")}
    for run in range(runs):
        if run:
            shutil.rmtree(folder / "dist")
        taken["alone"].append(one_by_one(folder, sources))
        build = ["release", "build", "release.toml", "--out", "dist"]
        taken["build"].append(seconds(folder, *build))
        taken["check"].append(seconds(folder, "release", "check", "dist"))
        sums = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
        taken["sha256sum"].append(timed(sums, folder / "dist")[0])
    size = sum(path.stat().st_size for path in (folder / "dist").iterdir())
    medians = {name: statistics.median(values) for name, values in taken.items()}
    return {
        **{f"{name}_s": value for name, value in medians.items()},
        "build_to_alone": medians["build"] / medians["alone"],
        "release_bytes": size,
        "check_gb_s": size / medians["check"] / 1e9,
        "sha256sum_gb_s": size / medians["sha256sum"] / 1e9,
        "cores": os.cpu_count() or 0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = measure(Path(name), options.runs)
    if options.json:
        print(json.dumps(found, indent=1))
        return
    print(f"five models, {found['release_bytes'] / 1e6:.0f} MB, {found['cores']:.0f} cores")
    print(f"  convert + verify  {found['alone_s']:6.1f} s, one after another")
    print(f"  release build     {found['build_s']:6.1f} s, ratio {found['build_to_alone']:.2f}")
    print(f"  release check     {found['check_s']:6.1f} s, {found['check_gb_s']:.2f} GB/s")
    print(f"  sha256sum -c      {found['sha256sum_s']:6.1f} s, {found['sha256sum_gb_s']:.2f} GB/s")


if __name__ == "__main__":
    main()
