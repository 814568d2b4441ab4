"""Run one network many times with small defects, each time from the changed block on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from parity_tests.candidate.torch_runner import CandidateRunner
from parity_tests.feeds import Feed
from parity_tests.localise.modules import patched, within
from parity_tests.selftest.mutants import Mutant, blocks

Array = npt.NDArray[Any]


class Network:
    """A candidate with the outputs of each of its blocks for each feed, before any defect.

    Args:
        runner: The correct candidate, entered.
        feeds: All images.
    """

    def __init__(self, runner: CandidateRunner, feeds: Sequence[Feed]) -> None:
        self.model: Any = runner.model
        self._runner = runner
        self._feeds = feeds
        self._outputs_of_blocks: list[dict[str, Any]] = []
        self.correct = np.concatenate([self._record(feed) for feed in feeds])

    def answers(self, mutant: Mutant) -> Array:
        """Return the outputs of the network with the defect, one row for each image.

        Blocks before the first with the defect are not run again: their recorded outputs are used.

        Raises:
            RuntimeError: The network can't run with the defect.
        """
        stages = list(self._outputs_of_blocks[0])
        first = self._first(mutant, stages)
        if first is None:
            return self.correct
        with broken(self.model, mutant):
            rows = [
                self._run(feed, stages[:first], recorded)
                for feed, recorded in zip(self._feeds, self._outputs_of_blocks, strict=True)
            ]
        return np.concatenate(rows)

    def _first(self, mutant: Mutant, stages: Sequence[str]) -> int | None:
        """Return the number of the first block to run again; None if no defective module runs."""
        if "" in mutant.layers or not stages:
            return len(stages)
        numbers = [
            number
            for number, stage in enumerate(stages)
            if any(within(layer, stage) for layer in mutant.layers)
        ]
        return min(numbers, default=None)

    def _record(self, feed: Feed) -> Array:
        """Run the correct network once and record the outputs of its blocks, in order."""
        recorded: dict[str, Any] = {}
        self._outputs_of_blocks.append(recorded)
        with ExitStack() as stack:
            for path in filter(None, blocks(self.model)):

                def hook(module: Any, args: Any, output: Any, path: str = path) -> None:
                    del module, args
                    recorded[path] = output

                handle = self.model.get_submodule(path).register_forward_hook(hook)
                stack.callback(handle.remove)
            return self._outputs(feed)

    def _run(self, feed: Feed, skipped: Sequence[str], recorded: Mapping[str, Any]) -> Array:
        with ExitStack() as stack:
            for path in skipped:
                output = recorded[path] if path == skipped[-1] else None
                module = self.model.get_submodule(path)
                stack.enter_context(patched(module, forward=_returning(output)))
            return self._outputs(feed)

    def _outputs(self, feed: Feed) -> Array:
        outputs = self._runner.run(feed.images)
        return np.concatenate([output.reshape(len(output), -1) for output in outputs], axis=1)


@contextmanager
def broken(model: Any, mutant: Mutant) -> Iterator[None]:
    """Plant the defect in `model` inside the context."""
    with ExitStack() as stack:
        for target, values in mutant.change(model):
            stack.enter_context(patched(target, **values))
        yield


def _returning(output: Any) -> Any:
    """Return a ``forward`` that returns `output`, or its own input if that is None."""

    def forward(value: Any) -> Any:
        return value if output is None else output

    return forward
