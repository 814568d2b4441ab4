"""Runs one network many times with small changes, each time from the changed block on."""

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
    """A candidate, entered, and what each of its blocks gave for each feed while it was right.

    Args:
        runner: Entered.
        feeds: All that it will be fed.
    """

    def __init__(self, runner: CandidateRunner, feeds: Sequence[Feed]) -> None:
        self.model: Any = runner.model
        self._runner = runner
        self._feeds = feeds
        self._given: list[dict[str, Any]] = []
        self.right = np.concatenate([self._record(feed) for feed in feeds])

    def answers(self, mutant: Mutant) -> Array:
        """The answers of the broken network, a row an image.

        Blocks before the first that is broken are not run again: they give what they gave.

        Raises:
            RuntimeError: The broken network can't run.
        """
        stages = list(self._given[0])
        first = self._first(mutant, stages)
        if first is None:
            return self.right
        with broken(self.model, mutant):
            rows = [
                self._run(feed, stages[:first], given)
                for feed, given in zip(self._feeds, self._given, strict=True)
            ]
        return np.concatenate(rows)

    def _first(self, mutant: Mutant, stages: Sequence[str]) -> int | None:
        """Number of the first block to run again; None: what is broken never runs."""
        if "" in mutant.layers or not stages:
            return len(stages)
        numbers = [
            number
            for number, stage in enumerate(stages)
            if any(within(layer, stage) for layer in mutant.layers)
        ]
        return min(numbers, default=None)

    def _record(self, feed: Feed) -> Array:
        """Run the right network once and keep what its blocks give, in their order."""
        given: dict[str, Any] = {}
        self._given.append(given)
        with ExitStack() as stack:
            for path in filter(None, blocks(self.model)):

                def hook(module: Any, args: Any, output: Any, path: str = path) -> None:
                    del module, args
                    given[path] = output

                handle = self.model.get_submodule(path).register_forward_hook(hook)
                stack.callback(handle.remove)
            return self._outputs(feed)

    def _run(self, feed: Feed, skipped: Sequence[str], given: Mapping[str, Any]) -> Array:
        with ExitStack() as stack:
            for path in skipped:
                answer = given[path] if path == skipped[-1] else None
                module = self.model.get_submodule(path)
                stack.enter_context(patched(module, forward=_giving(answer)))
            return self._outputs(feed)

    def _outputs(self, feed: Feed) -> Array:
        outputs = self._runner.run(feed.images)
        return np.concatenate([output.reshape(len(output), -1) for output in outputs], axis=1)


@contextmanager
def broken(model: Any, mutant: Mutant) -> Iterator[None]:
    """`model` with the defect, for as long as the context lasts."""
    with ExitStack() as stack:
        for thing, values in mutant.change(model):
            stack.enter_context(patched(thing, **values))
        yield


def _giving(answer: Any) -> Any:
    """A forward that gives `answer` whatever comes; None: what comes."""

    def forward(value: Any) -> Any:
        return value if answer is None else answer

    return forward
