"""Kill builds of a release at random moments, and look for anything that wrongly passes.

    python benchmarks/release_kills.py [--kills 100] [--seed 20180402]

A build of P- and R-Net is started, killed (SIGKILL) at a random moment, and started again, until
it finishes; then it starts from nothing. The moments are random times since the start, since a
random number of steps was finished, or since the last part began, in which the release is put
together, checked and named; each kind as often as the others. After each kill every folder in
sight that has a manifest is checked as ``facenet release check`` does. What passes must be the
release of an undisturbed build, byte for byte but for the provenance. The exit code is 1 if
anything is not.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from convert import FACENET, python

from facenet_common.errors import FacenetError
from facenet_release.checking.check import CheckOptions, check
from facenet_release.documents.manifest import MANIFEST, PROVENANCE

STEPS = 8  # of this build: four conversions, two judgements, two conclusions


def prepare(folder: Path) -> None:
    """Write inputs and a recipe into `folder`."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.small_release import write_inputs, write_recipe

    write_inputs(folder)
    write_recipe(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != PROVENANCE}


def start(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    command = python(FACENET, "release", "build", folder / "release.toml", "--out", out)
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill(build: subprocess.Popen[bytes], parent: Path, draw: random.Random, whole: float) -> bool:
    """Kill a build at a random moment; False if it finished before."""
    building = parent / ".dist.building"
    kind, steps = draw.choice(("start", "step", "end")), draw.randint(0, STEPS)
    wait = draw.random() * {"start": 1.2 * whole, "step": 0.6, "end": 0.3}[kind]
    since = time.perf_counter() if kind == "start" else None
    while build.poll() is None:
        if since is None:
            done = len(list((building / "steps").glob("*.json")))
            reached = (building / "release" / "README.md").exists() or done == STEPS
            if reached if kind == "end" else done >= steps:
                since = time.perf_counter()
        elif time.perf_counter() - since >= wait:
            build.kill()
            build.wait()
            return True
        time.sleep(0.001)
    return False


def judged(parent: Path, right: dict[str, bytes]) -> str:
    """Return the verdict of `check` on each folder below `parent` that has a manifest."""
    found = set()
    for manifest in parent.rglob(MANIFEST):
        try:
            check(manifest.parent, CheckOptions())
        except FacenetError:
            found.add("refused")
            continue
        found.add("good" if contents(manifest.parent) == right else "PASSES AND IS WRONG")
    return "; ".join(sorted(found)) or "no release"


def stage(parent: Path) -> str:
    """Return how far the build had come, for the count."""
    if (parent / "dist").exists():
        return "finished"
    building = parent / ".dist.building"
    if not building.exists():
        return "not begun"
    if (building / "release" / MANIFEST).exists():
        return "manifest written"
    steps = len(list((building / "steps").glob("*.json")))
    return f"{steps} steps done"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=20180402)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    verdicts: Counter[str] = Counter()
    stages: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder, parent = Path(name), Path(name) / "out"
        prepare(folder)
        started = time.perf_counter()
        assert start(folder, folder / "right").wait() == 0
        whole = time.perf_counter() - started
        right = contents(folder / "right")
        kills = builds = 0
        while kills < options.kills:
            shutil.rmtree(parent, ignore_errors=True)
            parent.mkdir()
            while not (parent / "dist").exists() and kills < options.kills:
                if kill(start(folder, parent / "dist"), parent, draw, whole):
                    kills += 1
                    stages[stage(parent)] += 1
                    verdicts[judged(parent, right)] += 1
            builds += (parent / "dist").exists()
            if (parent / "dist").exists():
                verdicts[f"finished: {judged(parent, right)}"] += 1
    print(f"{kills} kills of builds that take {whole:.1f} s; {builds} builds finished after kills")
    for counter in (stages, verdicts):
        for text, count in sorted(counter.items()):
            print(f"  {count:4}  {text}")
    wrong = sum(count for text, count in verdicts.items() if "WRONG" in text)
    print(f"{wrong} pass for a release and are none")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
