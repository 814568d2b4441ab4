"""Run jobs in processes of their own, which end with this one.

The processes print to files, because TensorFlow prints while it is imported. A queue brings the
names of their tasks to this process.
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

from facenet_release.building.job import Job, JobResult
from facenet_release.errors import ReleaseError

OnProgress = Callable[[str, str, bool], None]  # the model's name, its task, whether it is minor
# One thread for torch in each process, unless the user has set another number: then the figures
# don't depend on the number of cores.
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
_queue: Any = None


class FinishedJob(NamedTuple):
    """The result of a job and its duration in seconds."""

    result: JobResult
    seconds: float


def run_jobs(
    jobs: Sequence[Job], processes: int, logs: Path, on_progress: OnProgress
) -> list[FinishedJob]:
    """Run jobs in parallel and return their results in the order of `jobs`.

    The processes end when this returns or raises, and also if this process is killed.

    Args:
        jobs: The jobs.
        processes: The number of processes.
        logs: The folder for their output.
        on_progress: Called with the model, the task and whether it is minor, in another thread.

    Raises:
        ReleaseError: A process ended unexpectedly.
        FacenetError: The error of the first job that failed.
    """
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    parent_alive, parent_end = context.Pipe(duplex=False)  # workers exit when `parent_end` closes
    finished = threading.Event()
    reader = threading.Thread(target=_read_queue, args=(queue, on_progress, finished), daemon=True)
    reader.start()
    pool = ProcessPoolExecutor(processes, context, _start, (queue, parent_alive, str(logs)))
    try:
        with _delayed_interrupt():
            futures = [pool.submit(_run, job) for job in jobs]
        _raise_first(futures, logs)
        return [future.result() for future in futures]
    finally:
        parent_end.close()
        pool.shutdown(wait=True, cancel_futures=True)
        finished.set()
        reader.join(1)  # it blocks for ever if a process was killed while it wrote to the queue


@contextmanager
def _delayed_interrupt() -> Iterator[None]:
    """Delay Ctrl-C in this process, and block it in the processes that are started meanwhile.

    They inherit the signal mask. Another thread of this process may still receive the signal, and
    Python would then raise KeyboardInterrupt here, while a process is half started.
    """
    received: list[object] = []
    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGINT, lambda *_: received.append(_)) if main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if main:
            signal.signal(signal.SIGINT, handler)
    if received:
        raise KeyboardInterrupt


def _raise_first(futures: Sequence[Future[FinishedJob]], logs: Path) -> None:
    finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
    errors = [error for future in finished if (error := future.exception()) is not None]
    errors.sort(key=lambda error: isinstance(error, BrokenProcessPool))  # the least specific last
    if not errors:
        return
    if isinstance(errors[0], BrokenProcessPool):
        raise ReleaseError(
            "a process of the build ended unexpectedly",
            file=logs,
            found="no message; it may have run out of memory",
            next_step="read its output there; --jobs 1 needs the least memory",
        ) from errors[0]
    raise errors[0]


def _read_queue(queue: Any, on_progress: OnProgress, finished: threading.Event) -> None:
    """Pass on the queue's rows until all jobs are finished and the queue is empty.

    No row marks the end: a killed process may have left the queue locked.
    """
    while True:
        try:
            row = queue.get(timeout=0.1)
        except Empty:
            if finished.is_set():
                return
            continue
        with suppress(OSError):  # the terminal is closed; the build continues
            on_progress(*row)


def _start(queue: Any, parent_alive: Connection, logs: str) -> None:
    """Set up a new process: print to a file, and exit with the parent."""
    global _queue  # the only way from a process's start to its jobs
    _queue = queue
    for name in _THREADS:  # torch reads them when it is imported, which is later
        os.environ.setdefault(name, "1")
    log = os.open(Path(logs) / f"{os.getpid()}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    sys.stdout.flush()
    os.dup2(log, 1)
    os.dup2(log, 2)
    threading.Thread(target=_exit_with_parent, args=(parent_alive,), daemon=True).start()


def _exit_with_parent(parent_alive: Connection) -> None:
    try:
        parent_alive.recv()
    except (EOFError, OSError):
        os._exit(1)


def _run(job: Job) -> FinishedJob:
    name = job.input.model.name
    started = time.monotonic()

    def on_task(task: str, minor: bool = False) -> None:
        _queue.put((name, task, minor))

    result = job.run(on_task)
    on_task("done")
    return FinishedJob(result, time.monotonic() - started)
