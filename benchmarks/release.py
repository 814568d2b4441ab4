"""Times ``facenet release`` on five models against ``convert`` and ``verify`` on their own.

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
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

FACENET = [sys.executable, "-c", "from converter.cli.main import facenet; facenet()"]
LARGE = {"20180402-114759": 8631, "20180408-102900": 10575}
NAMES = {"20180402-114759": "20180402-114759-vggface2"}
NAMES |= {"20180408-102900": "20180408-102900-casia-webface"}


def prepare(folder: Path) -> dict[str, str]:
    """Checkpoints, det*.npy and a recipe in `folder`; the source of each model, by its name."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.small_release import NETS, write_inputs

    from converter.demo import write_demo
    from converter.sources.mapped import sha256_file

    sources = {}
    text = '[release]\nname = "benchmark"\nversion = "1"\n'
    for name, classes in LARGE.items():
        write_demo(folder / name, classes=classes)
        sources[NAMES[name]] = name
    write_inputs(folder)
    sources |= {net: file for net, (file, _) in NETS.items()}
    for model, source in sources.items():
        place = folder / source
        files = sorted(place.glob("model*")) if place.is_dir() else [place]
        text += f'[[model]]\nname = "{model}"\n[model.sha256]\n'
        text += "".join(f'"{file.name}" = "{sha256_file(file)}"\n' for file in files)
    (folder / "release.toml").write_text(text)
    return sources


def seconds(command: Sequence[str], folder: Path) -> float:
    """How long a command takes."""
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - started


def one_by_one(folder: Path, sources: dict[str, str]) -> float:
    """Every model converted to one file and verified, each command a process of its own."""
    total = 0.0
    for model, source in sources.items():
        out = f"alone/{model}.pt"
        (folder / "alone").mkdir(exist_ok=True)
        total += seconds([*FACENET, "convert", "--checkpoint", source, "--out", out], folder)
        total += seconds([*FACENET, "verify", source, out], folder)
    shutil.rmtree(folder / "alone")
    return total


def measure(folder: Path, runs: int) -> dict[str, float]:
    sources = prepare(folder)
    taken: dict[str, list[float]] = {name: [] for name in ("alone", "build", "check", "sha256sum")}
    for run in range(runs):
        if run:
            shutil.rmtree(folder / "dist")
        taken["alone"].append(one_by_one(folder, sources))
        build = [*FACENET, "release", "build", "release.toml", "--out", "dist"]
        taken["build"].append(seconds(build, folder))
        taken["check"].append(seconds([*FACENET, "release", "check", "dist"], folder))
        sums = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
        taken["sha256sum"].append(seconds(sums, folder / "dist"))
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
