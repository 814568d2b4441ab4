"""Progress of long jobs: callbacks that do nothing by default, and bars on a terminal.

rich is imported only where a bar is shown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Progress:
    """Progress callbacks; the default does nothing."""

    def stage(self, name: str, total: int) -> None:
        """Begin a stage of `total` bytes or items."""

    def note(self, text: str) -> None:
        """Name the current step if its size is unknown."""

    def advance(self, size: int) -> None:
        """Count `size` more bytes or items as done."""


class TerminalProgress(Progress):
    """A progress bar on standard error, if that is a terminal.

    Args:
        counted: Sizes are numbers of items, not of bytes.
    """

    def __init__(self, *, counted: bool = False) -> None:
        self._counted = counted
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> TerminalProgress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
            )

            self._progress = Progress(
                TextColumn("{task.description:<10}"),
                BarColumn(),
                MofNCompleteColumn() if self._counted else DownloadColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def stage(self, name: str, total: int) -> None:
        """Show a new bar."""
        if self._progress is not None:
            self._task = self._progress.add_task(name, total=total)

    def note(self, text: str) -> None:
        """Print `text` above the bar."""
        if self._progress is not None:
            self._progress.print(f"{text} …")

    def advance(self, size: int) -> None:
        """Move the bar."""
        if self._progress is not None:
            self._progress.advance(self._task, size)


@contextmanager
def progress_bar(label: str, total: int | None, shown: bool = True) -> Iterator[Callable[[], None]]:
    """Show a bar on standard error, if that is a terminal; yield a function to call for each item.

    Args:
        label: The text before the bar.
        total: The number of items; None if it is unknown.
        shown: False shows no bar.

    Examples:
        >>> with progress_bar("Images", 2) as advance:
        ...     for _ in range(2):
        ...         advance()
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (label, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda: progress.advance(task)
