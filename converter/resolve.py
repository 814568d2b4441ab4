"""Find the files of a source by the name that a user gives.

The name is a folder, a checkpoint's prefix, any of its files, or a bare name that is looked up in
the current folder, in ``models/`` and in ``$FACENET_CHECKPOINTS``. A zip archive is searched like a
folder, without unpacking it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from converter.catalog import Catalog
from converter.sandberg import MODELS
from converter.sources import archive, open_source
from converter.sources.tensorflow import bundle, saved_model, saver_v1
from facenet_common.errors import FormatError, UsageError

ENVIRONMENT = "FACENET_CHECKPOINTS"
_README = 'the table "Pre-trained models" in https://github.com/davidsandberg/facenet#readme'

_SHARD = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
_STEP = re.compile(r"(.*?)-(\d+)")
_STATE = re.compile(r'^model_checkpoint_path:\s*"(.+)"\s*$', re.MULTILINE)
_OTHER_SUFFIXES = (".pb", ".npy", ".h5", ".keras", ".pt", ".pth", ".safetensors")


@dataclass(frozen=True)
class Source:
    """The files of a source: a checkpoint's prefix or a file, and its graph, if there is one."""

    path: Path
    graph: Path | None = None

    def open(self) -> Catalog:
        """Return the source's tensors. Raises UsageError and FormatError as `open_source`."""
        return open_source(self.path)


def resolve(name: str, step: int | None = None) -> Source:
    """Find a source by name.

    Args:
        name: A folder, a prefix, a file, or a bare name.
        step: The training step, for a folder with checkpoints of several steps. None: the one that
            the file ``checkpoint`` names, else the latest.

    Raises:
        UsageError: Nothing was found, the name is ambiguous, or there is no such step.
        FormatError: A file of the checkpoint is missing.

    Examples:
        >>> from tempfile import mkdtemp
        >>> from converter.demo import write_demo
        >>> folder = Path(mkdtemp(), "faces")
        >>> write_demo(folder, embedding=4, classes=0)
        >>> resolve(str(folder)).path.name
        'model.ckpt'
    """
    if not name.strip():
        raise UsageError("the name of the checkpoint is empty", next_step="pass a file or a folder")
    try:
        places = _places(name)
        zipped = [place.with_name(place.name + archive.SUFFIX) for place in places if place.name]
        for place in [*places, *zipped]:
            source = _locate(place, step)
            if source is not None:
                _check_step(source, step)
                return source
    except OSError as error:
        raise UsageError("can't search for the checkpoint", file=name, found=error) from error
    base = Path(name).name
    where = f"download the model of this name: see {_README}" if base in MODELS else None
    raise UsageError(
        f"found no checkpoint {name!r}",
        expected="a folder, a checkpoint's prefix or one of its files",
        found="nothing at " + ", ".join(str(place) for place in places),
        next_step=where
        or f"check the path, or set {ENVIRONMENT} to the folder that holds your checkpoints",
    )


def _check_step(source: Source, step: int | None) -> None:
    match = _STEP.fullmatch(source.path.name)
    if step is not None and (match is None or int(match[2]) != step):
        raise UsageError(
            "the named checkpoint is not of the requested step",
            file=source.path,
            expected=f"step {step}",
            next_step="leave out --step, or pass the folder of the checkpoints",
        )


def _places(name: str) -> list[Path]:
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:  # ~USER, and there is no such user
        raise UsageError(f"can't expand the path {name}", found=error) from error
    if path.is_absolute():
        return [path]
    roots = [root for root in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if root]
    return [path, Path("models") / path, *(Path(root).expanduser() / path for root in roots)]


def _locate(place: Path, step: int | None) -> Source | None:
    if archive.is_archive(place):
        is_state_dict = archive.holds(place, "data.pkl")
        return Source(place) if is_state_dict else _in_archive(place, step)
    if archive.is_folder(place):
        return _in_folder(place, step)
    shard = _SHARD.fullmatch(place.name)
    if archive.is_file(place):
        if place.suffix == ".index":
            return _with_graph(place.with_suffix(""))
        if shard:
            return _with_graph(place.with_name(shard[1]))
        if place.suffix == ".meta":
            return _of_graph(place, step)
        if place.name == "checkpoint" and _STATE.search(_read_state(place)):
            return _in_folder(place.parent, step)
        if saver_v1.recognises(place):
            return _with_graph(saver_v1.prefix_of(place))
        return Source(place, place if place.suffix == ".pb" else None)
    if archive.is_folder(place.parent) and place.name in _prefixes(place.parent):
        return _with_graph(place)
    return None


def _in_archive(place: Path, step: int | None) -> Source:
    """Return the checkpoint of an archive: at its top, or in the only folder there."""
    folder = place
    while len(inside := archive.paths_in(folder)) == 1 and archive.is_folder(inside[0]):
        folder = inside[0]
    if len(inside) > 1 and all(map(archive.is_folder, inside)):
        raise UsageError(
            "the archive has several folders",
            file=place,
            found=", ".join(path.name for path in inside[:10]),
            next_step=f"pass one of them, such as {inside[0]}",
        )
    return _in_folder(folder, step)


def _prefixes(folder: Path) -> list[str]:
    """Return the prefixes of the checkpoints of which the folder has a file."""
    names = set()
    for path in archive.paths_in(folder):
        shard = _SHARD.fullmatch(path.name)
        if shard:
            names.add(shard[1])
        elif path.suffix == ".index":
            names.add(path.name.removesuffix(".index"))
        elif saver_v1.is_part(path):
            names.add(saver_v1.prefix_of(path).name)
    return sorted(names)


def _in_folder(folder: Path, step: int | None) -> Source:
    model = folder / saved_model.FILE
    if saved_model.recognises(model):
        return Source(model, model)
    prefixes = _prefixes(folder)
    if prefixes:
        return _with_graph(folder / _choose(folder, prefixes, step))
    others = [path for path in archive.paths_in(folder) if path.suffix in _OTHER_SUFFIXES]
    if len(others) == 1:
        return Source(others[0], others[0] if others[0].suffix == ".pb" else None)
    if others:
        raise UsageError(
            "the folder has several weight files",
            file=folder,
            found=", ".join(path.name for path in others[:10]),
            next_step="pass one of the files",
        )
    names = [path.name for path in archive.paths_in(folder)]
    raise UsageError(
        "the folder has no checkpoint",
        file=folder,
        expected="NAME.index and NAME.data-00000-of-00001, or a .pb file",
        found=", ".join(names[:10]) or "an empty folder",
        next_step="unpack the model into this folder, or pass another folder",
    )


def _choose(folder: Path, prefixes: list[str], step: int | None) -> str:
    """Return the prefix of `step`, or the one that the file `checkpoint` names, or the latest."""
    if step is None:
        state = folder / "checkpoint"
        named = _STATE.search(_read_state(state)) if archive.is_file(state) else None
        # It has the path on the training machine: only the file name is valid here.
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
            "the folder has checkpoints of several models",
            file=folder,
            found=", ".join(prefixes[:10]),
            next_step="pass the prefix of one of them, such as " + str(folder / prefixes[-1]),
        )
    (steps,) = stems.values()
    if step is None:
        return steps[max(steps, key=lambda number: -1 if number is None else number)]
    if step not in steps:
        numbers = sorted(number for number in steps if number is not None)
        raise UsageError(
            f"the folder has no checkpoint of step {step}",
            file=folder,
            found=f"steps {', '.join(map(str, numbers))}"
            if numbers
            else f"one checkpoint, without a step in its name: {steps[None]}",
            next_step="choose one of them" if numbers else "leave out --step",
        )
    return steps[step]


def _of_graph(meta: Path, step: int | None) -> Source:
    """Return the checkpoint of a .meta file: its name starts with the file's."""
    stem = meta.name.removesuffix(".meta")
    found = _prefixes(meta.parent)
    prefixes = [stem] if stem in found else [name for name in found if name.startswith(stem)]
    if not prefixes:
        raise FormatError(
            "a .meta file holds the graph only, and the weights are not in its folder",
            file=meta,
            expected=f"{stem}*.index and {stem}*.data-00000-of-00001 in the same folder",
            found=", ".join(p.name for p in archive.paths_in(meta.parent)[:10]),
            next_step="copy all files of the checkpoint into one folder",
        )
    return _with_graph(meta.parent / _choose(meta.parent, prefixes, step), meta)


def _with_graph(prefix: Path, graph: Path | None = None) -> Source:
    index = bundle.index_path(prefix)
    if not archive.is_file(index) and not saver_v1.recognises(prefix):
        raise FormatError(
            "the checkpoint's index is missing",
            file=index,
            expected=f"{index.name} in the folder of {prefix.name}.data-…",
            found=", ".join(p.name for p in archive.paths_in(prefix.parent)[:10]),
            next_step="copy the .index file into the same folder; it is needed to read the data",
        )
    return Source(prefix, graph or _graph_of(prefix))


def _graph_of(prefix: Path) -> Path | None:
    """Return the .meta file of a checkpoint, or None.

    It has the checkpoint's name, or the start of that name, or is the only one.
    """
    own = prefix.with_name(prefix.name + ".meta")
    if archive.is_file(own):
        return own
    found = [path for path in archive.paths_in(prefix.parent) if path.suffix == ".meta"]
    graphs = [path for path in found if prefix.name.startswith(path.stem)] or found
    if len(graphs) > 1:
        raise UsageError(
            "several .meta files may be the graph of this checkpoint",
            file=prefix.parent,
            expected=f"one file {own.name}, or with the start of that name",
            found=", ".join(path.name for path in graphs[:10]),
            next_step="remove the others, or pass the right .meta file as the checkpoint",
        )
    return graphs[0] if graphs else None


def _read_state(path: Path) -> str:
    return archive.read(path, 1 << 16).decode("utf-8", "replace")
