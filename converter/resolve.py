"""From what a user types to the files that are meant.

A source may be named by a folder, by a checkpoint's prefix, by any of its files, or by a bare
name that is looked up in the current folder, in ``models/`` and in ``$FACENET_CHECKPOINTS``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from converter.catalog import Catalog
from converter.sources import open_source
from converter.sources.tensorflow import bundle
from facenet_common.errors import FormatError, UsageError

ENVIRONMENT = "FACENET_CHECKPOINTS"
PUBLISHED = ("20180402-114759", "20180408-102900")
_README = 'the table "Pre-trained models" in https://github.com/davidsandberg/facenet#readme'

_SHARD = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
_STEP = re.compile(r"(.*?)-(\d+)")
_STATE = re.compile(r'^model_checkpoint_path:\s*"(.+)"\s*$', re.MULTILINE)
_OTHER_SUFFIXES = (".pb", ".npy", ".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class Source:
    """What a name stands for: a bundle's prefix or a file, and the graph that goes with it."""

    path: Path
    graph: Path | None = None

    def open(self) -> Catalog:
        """The source's tensors."""
        return open_source(self.path)


def resolve(name: str, step: int | None = None) -> Source:
    """The source that `name` stands for; among several steps, `step` or the latest.

    Raises UsageError where nothing is found (listing where it looked), where the name could mean
    several things, or where it has no such step; FormatError where a checkpoint lacks a file.
    """
    if not name.strip():
        raise UsageError("the name of the checkpoint is empty", next_step="name a file or a folder")
    try:
        places = _places(name)
        for place in places:
            source = _locate(place, step)
            if source is not None:
                _check_step(source, step)
                return source
    except OSError as error:
        raise UsageError("can't look for the checkpoint", file=name, found=error) from error
    base = Path(name).name
    where = f"models of this name are published: see {_README}" if base in PUBLISHED else None
    raise UsageError(
        f"no checkpoint called {name!r}",
        expected="a folder, a checkpoint's prefix or one of its files",
        found="nothing at " + ", ".join(str(place) for place in places),
        next_step=where
        or f"check the path, or set {ENVIRONMENT} to the folder that holds your checkpoints",
    )


def _check_step(source: Source, step: int | None) -> None:
    match = _STEP.fullmatch(source.path.name)
    if step is not None and (match is None or int(match[2]) != step):
        raise UsageError(
            "what was named is not of the step that was asked for",
            file=source.path,
            expected=f"step {step}",
            next_step="leave out --step, or name the folder that holds the checkpoints",
        )


def _places(name: str) -> list[Path]:
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:  # ~user of nobody
        raise UsageError(f"can't tell where {name} is", found=error) from error
    if path.is_absolute():
        return [path]
    roots = [root for root in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if root]
    return [path, Path("models") / path, *(Path(root).expanduser() / path for root in roots)]


def _locate(place: Path, step: int | None) -> Source | None:
    if place.is_dir():
        return _in_folder(place, step)
    shard = _SHARD.fullmatch(place.name)
    if place.is_file():
        if place.suffix == ".index":
            return _with_graph(place.with_suffix(""))
        if shard:
            return _with_graph(place.with_name(shard[1]))
        if place.suffix == ".meta":
            return _of_graph(place, step)
        if place.name == "checkpoint" and _STATE.search(_read_state(place)):
            return _in_folder(place.parent, step)
        return Source(place, place if place.suffix == ".pb" else None)
    if place.parent.is_dir() and place.name in _prefixes(place.parent):
        return _with_graph(place)
    return None


def _prefixes(folder: Path) -> list[str]:
    """Names of the bundles of which the folder holds any index or data file."""
    names = set()
    for path in folder.iterdir():
        shard = _SHARD.fullmatch(path.name)
        if shard:
            names.add(shard[1])
        elif path.suffix == ".index":
            names.add(path.name.removesuffix(".index"))
    return sorted(names)


def _in_folder(folder: Path, step: int | None) -> Source:
    prefixes = _prefixes(folder)
    if prefixes:
        return _with_graph(folder / _choose(folder, prefixes, step))
    others = sorted(path for path in folder.iterdir() if path.suffix in _OTHER_SUFFIXES)
    if len(others) == 1:
        return Source(others[0], others[0] if others[0].suffix == ".pb" else None)
    if others:
        raise UsageError(
            "the folder holds several weight files",
            file=folder,
            found=", ".join(path.name for path in others[:10]),
            next_step="name the one you mean",
        )
    there = sorted(path.name for path in folder.iterdir())
    raise UsageError(
        "the folder holds no checkpoint",
        file=folder,
        expected="NAME.index and NAME.data-00000-of-00001, or a .pb file",
        found=", ".join(there[:10]) or "an empty folder",
        next_step="unpack the model into this folder, or name another one",
    )


def _choose(folder: Path, prefixes: list[str], step: int | None) -> str:
    """One of several bundles: the step asked for, the one `checkpoint` names, or the latest."""
    if step is None:
        state = folder / "checkpoint"
        named = _STATE.search(_read_state(state)) if state.is_file() else None
        # The path in it is the trainer's; only its last part means anything here.
        base = re.split(r"[/\\]", named[1])[-1] if named else None
        if base in prefixes:
            return base
    stems: dict[str, dict[int | None, str]] = {}
    for prefix in prefixes:
        match = _STEP.fullmatch(prefix)
        stem, number = (match[1], int(match[2])) if match else (prefix, None)
        stems.setdefault(stem, {})[number] = prefix
    if len(stems) > 1:
        raise UsageError(
            "the folder holds checkpoints of several models",
            file=folder,
            found=", ".join(prefixes[:10]),
            next_step="name the one you mean: " + str(folder / prefixes[-1]),
        )
    (steps,) = stems.values()
    if step is None:
        return steps[max(steps, key=lambda number: -1 if number is None else number)]
    if step not in steps:
        numbers = sorted(number for number in steps if number is not None)
        raise UsageError(
            f"there is no checkpoint of step {step}",
            file=folder,
            found=f"steps {', '.join(map(str, numbers))}"
            if numbers
            else f"one checkpoint, whose name has no step: {steps[None]}",
            next_step="choose one of them" if numbers else "leave out --step",
        )
    return steps[step]


def _of_graph(meta: Path, step: int | None) -> Source:
    """The bundle that a .meta file belongs to, by the start of its name."""
    stem = meta.name.removesuffix(".meta")
    there = _prefixes(meta.parent)
    prefixes = [stem] if stem in there else [name for name in there if name.startswith(stem)]
    if not prefixes:
        raise FormatError(
            "a .meta file holds the graph, not the weights, and the weights aren't beside it",
            file=meta,
            expected=f"{stem}*.index and {stem}*.data-00000-of-00001 in the same folder",
            found=", ".join(sorted(p.name for p in meta.parent.iterdir())[:10]),
            next_step="copy all files of the checkpoint into one folder",
        )
    return _with_graph(meta.parent / _choose(meta.parent, prefixes, step), meta)


def _with_graph(prefix: Path, graph: Path | None = None) -> Source:
    index = bundle.index_path(prefix)
    if not index.is_file():
        raise FormatError(
            "the checkpoint's index is missing",
            file=index,
            expected=f"{index.name} beside {prefix.name}.data-…",
            found=", ".join(sorted(p.name for p in prefix.parent.iterdir())[:10]),
            next_step="copy the .index file into the same folder; without it nothing can be read",
        )
    return Source(prefix, graph or _graph_of(prefix))


def _graph_of(prefix: Path) -> Path | None:
    """The .meta file of a bundle: the one of its own name, else the one whose name it continues,
    else the only one.
    """
    own = prefix.with_name(prefix.name + ".meta")
    if own.is_file():
        return own
    there = sorted(prefix.parent.glob("*.meta"))
    graphs = [path for path in there if prefix.name.startswith(path.stem)] or there
    if len(graphs) > 1:
        raise UsageError(
            "several .meta files could be this checkpoint's graph",
            file=prefix.parent,
            expected=f"one, called {own.name} or like the start of that name",
            found=", ".join(path.name for path in graphs[:10]),
            next_step="remove the others, or name the right .meta file as the checkpoint",
        )
    return graphs[0] if graphs else None


def _read_state(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(1 << 16).decode("utf-8", "replace")
