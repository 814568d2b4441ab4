"""How far each model of a build is: a live line each on a terminal, else a line for each stage."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import click


class BuildProgress:
    """Told what is being done with which model; shows it on standard error.

    In a log, where nothing can be redrawn, what is minor is left out.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._live: Any = None
        self._rows: dict[str, Any] = {}
        self._started = time.monotonic()

    def __enter__(self) -> BuildProgress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._live = Progress(
                SpinnerColumn(finished_text=" "),
                TextColumn("{task.description}", markup=False),
                TextColumn("{task.fields[what]}", markup=False),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._live.start()
            for name in self._names:
                self._row(name)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def told(self, name: str, what: str, minor: bool) -> None:
        """`what` is done now with the model `name`; with no name, with the whole release."""
        name = name or "release"
        if self._live is None:
            if minor:
                return
            seconds = time.monotonic() - self._started
            click.echo(f"[{seconds:6.1f} s] {name}: {what}", err=True)
            return
        row = self._row(name)
        self._live.start_task(row)
        self._live.update(row, what=what)
        if what == "done":
            self._live.stop_task(row)

    def _row(self, name: str) -> Any:
        if name not in self._rows:
            self._rows[name] = self._live.add_task(name, total=None, start=False, what="waiting")
        return self._rows[name]
