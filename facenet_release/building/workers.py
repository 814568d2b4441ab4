"""Several models at a time, each in a process of its own, that ends with this one.

What the processes print goes to files: TensorFlow talks while it is imported. What they are doing
comes through a queue.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple

from facenet_release.building.job import Job, Result
from facenet_release.errors import ReleaseError

Told = Callable[[str, str, bool], None]  # the model's name, what is being done, whether minor
# Threads of torch in each process, unless the user has set them: one, so that the figures don't
# depend on how many cores a machine has.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_queue: Any = None


class Done(NamedTuple):
    """A finished job and the seconds that it took."""

    result: Result
    seconds: float


def run(jobs: Sequence[Job], processes: int, logs: Path, told: Told) -> list[Done]:
    """The results in the order of `jobs`. Raises what the first job to fail raised.

    However this ends, by an error or Ctrl-C or SIGKILL, its processes end too.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    stay, leave = context.Pipe(duplex=False)  # the processes go when `leave` is closed
    finished = threading.Event()
    listening = threading.Thread(target=_listen, args=(queue, told, finished), daemon=True)
    listening.start()
    pool = ProcessPoolExecutor(processes, context, _start, (queue, stay, str(logs)))
    try:
        with _uninterrupted():
            futures = [pool.submit(_run, job) for job in jobs]
        _raise_first(futures, logs)
        return [future.result() for future in futures]
    finally:
        leave.close()
        pool.shutdown(wait=True, cancel_futures=True)
        finished.set()
        listening.join(1)  # a process that was killed in the middle of a word keeps it waiting


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C, which processes that are started meanwhile never hear of.

    They inherit what is blocked. Other threads of this process may hear it all the same, and
    Python would have it raised here, between a process's start and its first words.
    """
    heard: list[object] = []
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda *_: heard.append(_)) if main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if main:
            signal.signal(signal.SIGINT, handler)
    if heard:
        raise KeyboardInterrupt


def _raise_first(futures: Sequence[Future[Done]], logs: Path) -> None:
    finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
    errors = [error for future in finished if (error := future.exception()) is not None]
    errors.sort(key=lambda error: isinstance(error, BrokenProcessPool))  # others say more
    if not errors:
        return
    if isinstance(errors[0], BrokenProcessPool):
        raise ReleaseError(
            "a process of the build died",
            file=logs,
            found="no message; it may have run out of memory",
            next_step="read what it printed there; --jobs 1 needs the least memory",
        ) from errors[0]
    raise errors[0]


def _listen(queue: Any, told: Told, finished: threading.Event) -> None:
    """Hand on what is said, until nothing more is and everything is finished.

    Nothing is sent to end it: a killed process may have left the queue locked.
    """
    while True:
        try:
            said = queue.get(timeout=0.1)
        except Empty:
            if finished.is_set():
                return
            continue
        with suppress(OSError):  # nobody looks any more; the build goes on
            told(*said)


def _start(queue: Any, stay: Connection, logs: str) -> None:
    """In a new process: print to a file, end with the parent."""
    global _queue  # a process's only way from its start to its jobs
    _queue = queue
    for name in _THREADS:  # read when torch is imported, which is later
        os.environ.setdefault(name, "1")
    log = os.open(Path(logs) / f"{os.getpid()}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    sys.stdout.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    threading.Thread(target=_leave_with, args=(stay,), daemon=True).start()


def _leave_with(stay: Connection) -> None:
    try:
        stay.recv()
    except (EOFError, OSError):
        os._exit(1)


def _run(job: Job) -> Done:
    name = job.input.model.name
    started = time.monotonic()

    def say(text: str, minor: bool = False) -> None:
        _queue.put((name, text, minor))

    result = job.run(say)
    say("done")
    return Done(result, time.monotonic() - started)
