"""Fit the images of a comparison to what an ONNX file takes; both sides run on the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from facenet_common.errors import ParityError
from parity_tests.open_sides import Candidate, FeedOptions, make_feeds
from parity_tests.reference.protocol import Reference


def fit_feeds(
    reference: Reference, candidate: Candidate, options: FeedOptions
) -> tuple[Candidate, tuple[str, ...]]:
    """Let `reference` use images of the sizes that an ONNX file takes.

    A live reference gets images of a fixed size. An odd size is left out if the file does not take
    it; so are those images of a record that it does not take.

    Args:
        reference: Its feeds are changed.
        candidate: A candidate with weights takes every feed.
        options: What the feeds were made with.

    Returns:
        The candidate with the type in which it computes, and notes on what was left out, and on
        what is assumed of the file.

    Raises:
        ParityError: The file can't be run, or takes none of the images.
    """
    if candidate.weights is not None:
        return candidate, ()
    with candidate.onnx_runner(quick=True) as runner:
        feeds, notes = reference.feeds, [*runner.notes]
        if any(runner.edges) and not reference.is_recorded:
            feeds = make_feeds(reference.architecture, options, runner.edges)
            lost = {feed.name for feed in reference.feeds} - {feed.name for feed in feeds}
            notes += [_left_out(name, f"of {_text(runner.edges)} only") for name in sorted(lost)]
        taken, tried = [], dict[tuple[int, ...], str]()
        for feed in feeds:
            shape = feed.images.shape[1:]
            if shape not in tried:
                tried[shape] = ""
                try:
                    runner.run(feed.images[:1])
                except ParityError as error:
                    if not feed.optional and not reference.is_recorded:
                        raise
                    size = runner.refuses_size(feed.images)
                    tried[shape] = f"of {size} only" if size else _failure(error)
            if tried[shape]:
                notes.append(_left_out(feed.name, tried[shape]))
            else:
                taken.append(feed)
    if not taken:
        raise ParityError(
            "the candidate takes none of the recorded images",
            file=candidate.path,
            expected=", ".join(sorted({_text(feed.images.shape[1:3]) for feed in feeds})),
            found="; ".join(dict.fromkeys(tried.values())),
            next_step="compare it with the checkpoint itself, for which other images are made, or "
            "export it with free height and width",
        )
    reference.use(tuple(taken))
    return replace(candidate, precision=runner.precision), tuple(notes)


def _left_out(feed: str, why: str) -> str:
    return f"the feed {feed!r} is left out: the candidate takes images {why}"


def _text(edges: Sequence[int | None]) -> str:
    return " by ".join(str(edge or "any") for edge in edges)


def _failure(error: ParityError) -> str:
    """Return the first line of what onnxruntime said."""
    return f"of other sizes only: {(error.found or error.problem).partition(chr(10))[0]}"
