"""The processes of a build: SIGKILL, Ctrl-C, a full disk, a process that is killed."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.small_release import write_recipe

from facenet_release.building import workers
from facenet_release.building.build import build, plan
from facenet_release.building.staging import Staging
from facenet_release.checking.check import CheckOptions, check
from facenet_release.documents.recipe import read
from facenet_release.errors import ReleaseError

pytestmark = pytest.mark.tensorflow


# A program that is started in a shell's background would leave Ctrl-C unheard.
FACENET = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from converter.cli.main import facenet
facenet()
"""


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of `size` at `folder`; skips the test where it can't be mounted."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small file system can't be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def failed_build(recipe: Path, out: Path, **options: Any) -> dict[str, str]:
    """Build with ``--json``, which must fail with one message; return what it printed."""
    command = [sys.executable, "-c", FACENET, "release", "build", str(recipe), "--out", str(out)]
    done = subprocess.run([*command, "--jobs", "1", "--json"], capture_output=True, **options)
    assert done.returncode == 1, done.stderr
    assert b"Traceback" not in done.stderr
    assert not out.exists()
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("size", ["160k", "300k"])  # full while exporting ONNX; while converting
def test_a_full_disk_is_one_message(size: str, inputs: Path, tmp_path: Path) -> None:
    formats = dict.fromkeys(("pnet", "rnet"), 'formats = ["pt", "safetensors", "onnx"]')
    recipe = write_recipe(inputs, more=formats)
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", size):
        error = failed_build(recipe, tmp_path / "disk" / "dist")
    assert (error["error"], error["found"]) == ("OutputError", "No space left on device")


def test_a_limit_of_the_file_size_is_one_message(inputs: Path) -> None:
    resource = pytest.importorskip("resource", reason="of POSIX systems")

    def limit() -> None:  # the page of the parity report has 47 kB, all files before are smaller
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    recipe = write_recipe(inputs, ("pnet",))
    error = failed_build(recipe, inputs / "dist", preexec_fn=limit)
    assert (error["error"], error["found"]) == ("OutputError", "File too large")


def processes_of(folder: Path) -> list[int]:
    """Processes that have `folder` in their environment: of a build that was started with it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize("signals", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_build_leaves_no_process_and_goes_on(
    inputs: Path, signals: signal.Signals
) -> None:
    recipe, out = write_recipe(inputs, ("pnet",)), inputs / "dist"
    command = [sys.executable, "-c", FACENET]
    started = subprocess.Popen(
        [*command, "release", "build", str(recipe), "--out", str(out)],
        env={**os.environ, "MARK": str(inputs)},
        stderr=subprocess.PIPE,
        text=True,
    )
    first = Staging(out).steps / "convert pnet.pt.json"
    deadline = time.monotonic() + 120
    while not first.exists():
        assert started.poll() is None, started.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    started.send_signal(signals)
    _, said = started.communicate(timeout=60)
    assert started.returncode == (-signal.SIGKILL if signals == signal.SIGKILL else 130), said
    while processes_of(inputs):
        assert time.monotonic() < deadline, processes_of(inputs)
        time.sleep(0.05)
    assert not out.exists()
    assert plan(read(recipe), out)[0].finished["pnet.pt"]
    build(read(recipe), out, processes=1)
    check(out, CheckOptions())


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize("pause", [0.05, 0.5])  # seconds: they import; their jobs have begun
def test_ctrl_c_while_processes_start_is_heard_by_one_alone(inputs: Path, pause: float) -> None:
    """A terminal sends it to all; those that are just importing would print where they were."""
    command = [sys.executable, "-c", FACENET]
    build_in = ["--out", str(inputs / "dist"), "--jobs", "2"]
    started = subprocess.Popen(
        [*command, "release", "build", str(write_recipe(inputs)), *build_in],
        env={**os.environ, "MARK": str(inputs)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while len(processes_of(inputs)) < 4:  # with the one that tracks resources
        assert started.poll() is None, started.communicate()[1]
    time.sleep(pause)
    os.killpg(started.pid, signal.SIGINT)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    *before, last = said.strip().splitlines()
    assert last == "Interrupted; the same command continues this build"
    # Nothing else is said but how far the jobs are, and an empty line; no traceback.
    assert all(re.match(r"\[ *[0-9.]+ s\] [a-z]+: |$", line) for line in before), said


@dataclass
class Talks:
    """A job that reports tasks, each after the one before has arrived."""

    folder: Path
    input = SimpleNamespace(model=SimpleNamespace(name="talks"))

    def run(self, on_task: Any) -> str:
        for task in ("one", "two"):
            on_task(task)
            deadline = time.monotonic() + 60
            while not (self.folder / task).exists():
                assert time.monotonic() < deadline, f"{task} did not arrive"
                time.sleep(0.01)
        return "result"


def test_a_build_continues_after_its_terminal_is_closed(tmp_path: Path) -> None:
    def on_progress(model: str, task: str, minor: bool) -> None:
        assert (model, minor) == ("talks", False)
        (tmp_path / task).touch()
        raise BrokenPipeError

    jobs: Any = [Talks(tmp_path)]
    (done,) = workers.run_jobs(jobs, 1, tmp_path, on_progress)
    assert (done.result, done.seconds > 0) == ("result", True)


class Dies:
    """A job whose process is killed while it tells what it does."""

    input = SimpleNamespace(model=SimpleNamespace(name="dies"))

    def run(self, _: object) -> None:
        workers._queue._wlock.acquire()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_dies_is_reported_and_not_waited_for(tmp_path: Path) -> None:
    jobs: Any = [Dies()]
    with pytest.raises(ReleaseError, match="process of the build ended"):
        workers.run_jobs(jobs, 1, tmp_path, lambda *_: None)
