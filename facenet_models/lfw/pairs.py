"""Read ``pairs.txt`` of Labeled Faces in the Wild, and find its images or embeddings.

The first line gives the number of folds and N (or only N, for one fold). Each fold then has N
lines ``person number number``, for two images of one person, and N lines
``person number person number``, for images of two people. An image's file is
``person/person_0001.jpg``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from facenet_common.errors import FacenetError, UsageError
from facenet_common.text import check_path
from facenet_models.recognition.embeddings import Embeddings

SUFFIXES = (".jpg", ".png")  # the original looks for them in this order
MAX_PROBLEMS = 5  # in one message
_NUMBER = re.compile(r"[0-9]{1,6}", re.ASCII)


class Face(NamedTuple):
    """An image of LFW: a person, and the image's number from 1."""

    person: str
    number: int

    @property
    def stem(self) -> str:
        """Return its path in LFW's folder, without suffix.

        Examples:
            >>> Face("Ann", 1).stem
            'Ann/Ann_0001'
        """
        return f"{self.person}/{self.person}_{self.number:04d}"


class Pair(NamedTuple):
    """Two images, and the line of the file that names them."""

    first: Face
    second: Face
    line: int

    @property
    def same(self) -> bool:
        """Return whether both images show the same person."""
        return self.first.person == self.second.person

    def __str__(self) -> str:
        return f"{self.first.stem} {self.second.stem}"


@dataclass(frozen=True)
class Pairs:
    """The pairs of a file in their order, and the number of folds that the file declares."""

    folds: int
    pairs: tuple[Pair, ...]

    @property
    def faces(self) -> tuple[Face, ...]:
        """Return each image once, in the order of the pairs."""
        return tuple(dict.fromkeys(face for pair in self.pairs for face in pair[:2]))


class LeftOut(NamedTuple):
    """A pair that can't be evaluated, and the reason."""

    pair: Pair
    reason: str


@dataclass(frozen=True, eq=False)
class Matched:
    """The M pairs that have embeddings.

    Attributes:
        places: ``(M,)``: indices in `Pairs.pairs`.
        first: ``(M,)``: row of the first image's embedding.
        second: ``(M,)``: row of the second image's embedding.
        same: ``(M,)`` bool: whether both images show the same person.
        left_out: The other pairs.
    """

    places: np.ndarray
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray
    left_out: tuple[LeftOut, ...]


def read_pairs(path: str | Path) -> Pairs:
    """Read and check ``pairs.txt``.

    Raises:
        UsageError: There is no such file.
        FacenetError: The file has another format; the message names the lines.

    Examples:
        >>> read_pairs("pairs.txt").folds  # doctest: +SKIP
        10
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError("no such pairs file", file=path, next_step=check_path(path))
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise FacenetError(
            "the pairs file is not UTF-8 text",
            file=path,
            next_step="fetch LFW's pairs.txt again",
        ) from error
    while lines and not lines[-1].strip():
        lines.pop()
    folds, each = _read_header(lines, path)
    pairs: list[Pair] = []
    problems: list[str] = []
    for i, line in enumerate(lines[1:], start=2):
        try:
            pairs.append(_read_pair(line.split(), i))
        except ValueError as error:
            problems.append(f"line {i}: {error}")
    problems = problems or _check_counts(pairs, folds, each)
    if problems:
        shown = problems[:MAX_PROBLEMS]
        if len(problems) > MAX_PROBLEMS:
            shown.append(f"and {len(problems) - MAX_PROBLEMS} more")
        raise FacenetError(
            "the pairs file is damaged, or has another format",
            file=path,
            expected="person number number, or person number person number",
            found="; ".join(shown),
        )
    return Pairs(folds, tuple(pairs))


def locate(folder: str | Path, faces: Iterable[Face]) -> dict[str, Path]:
    """Find the files of `faces` in `folder`; leave out those that are missing.

    Returns:
        Name in the folder to path.

    Raises:
        UsageError: There is no such folder, or it has none of the images.

    Examples:
        >>> files = locate("lfw", read_pairs("pairs.txt").faces)  # doctest: +SKIP
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UsageError("no such folder", file=folder, next_step=check_path(folder))
    found: dict[str, Path] = {}
    stem = "person/person_0001"
    for face in faces:
        stem = face.stem
        names = (stem + suffix for suffix in SUFFIXES)
        name = next((name for name in names if (folder / name).is_file()), None)
        if name is not None:
            found[name] = folder / name
    if not found:
        raise UsageError(
            "the folder has none of the images that the pairs name",
            file=folder,
            expected=f"files such as {stem}.jpg",
        )
    return found


def match(embeddings: Embeddings, pairs: Pairs) -> Matched:
    """Find the embeddings of each pair by name.

    The last two parts of an embedding's name are compared, without suffix:
    ``lfw/Ann/Ann_0001.jpg`` is ``Ann/Ann_0001``. A pair without both embeddings is left out, with
    the reason.

    Raises:
        FacenetError: Two embeddings are of the same image of a pair, or no pair has both
            embeddings.

    Examples:
        >>> matched = match(Embeddings.load("lfw.npz"), read_pairs("pairs.txt"))  # doctest: +SKIP
    """
    needed = {face.stem for face in pairs.faces}
    rows: dict[str, int] = {}
    for i, name in enumerate(embeddings.names):
        stem = _stem(name)
        if stem in needed and stem in rows:
            raise FacenetError(
                "two embeddings are of the same image",
                found=f"{embeddings.names[rows[stem]]} and {name}",
                next_step="embed the folder of LFW alone",
            )
        rows[stem] = i
    reasons = {_stem(miss.name): miss.reason for miss in embeddings.misses}

    found: list[tuple[int, int, int]] = []
    left_out: list[LeftOut] = []
    for place, pair in enumerate(pairs.pairs):
        missing = [face.stem for face in pair[:2] if face.stem not in rows]
        if missing:
            why = (f"{stem}: {reasons.get(stem, 'no such image')}" for stem in missing)
            left_out.append(LeftOut(pair, "; ".join(why)))
        else:
            found.append((place, rows[pair.first.stem], rows[pair.second.stem]))
    if not found:
        raise FacenetError(
            "no pair has embeddings of both its images",
            expected=f"names such as {pairs.pairs[0].first.stem}.jpg",
            found=f"names such as {embeddings.names[0]}" if len(embeddings) else "no embedding",
        )
    places, first, second = np.array(found).T
    same = np.array([pairs.pairs[place].same for place in places])
    return Matched(places, first, second, same, tuple(left_out))


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return f"{path.parent.name}/{path.stem}"


def _read_header(lines: list[str], path: Path) -> tuple[int, int]:
    """Return the number of folds, and that of same (and of different) pairs in each."""
    fields = lines[0].split() if lines else []
    numbers = [int(field) for field in fields if _NUMBER.fullmatch(field)]
    if len(numbers) != len(fields) or len(fields) not in (1, 2) or 0 in numbers:
        raise FacenetError(
            "the first line of the pairs file must give the numbers of folds and of pairs",
            file=path,
            expected="for example 10 300: 10 folds, each of 300 same and 300 different pairs",
            found=lines[0][:80] if lines else "an empty file",
        )
    return (1, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])


def _read_pair(fields: list[str], line: int) -> Pair:
    """Parse a line; raise ValueError with the reason if it is wrong."""
    if len(fields) not in (3, 4):
        raise ValueError(f"{len(fields)} fields, expected 3 or 4")
    person, other = fields[0], fields[0] if len(fields) == 3 else fields[2]
    for name in (person, other):
        if "/" in name or name in (".", ".."):  # it becomes part of a path
            raise ValueError(f"{name!r} is not a person's name")
    for number in (fields[1], fields[-1]):
        if not _NUMBER.fullmatch(number) or int(number) == 0:
            raise ValueError(f"{number!r} is not the number of an image, from 1")
    first, second = Face(person, int(fields[1])), Face(other, int(fields[-1]))
    if first == second:
        raise ValueError(f"{first.stem} is paired with itself")
    if len(fields) == 4 and person == other:
        raise ValueError(f"{person} appears twice in a pair of different people")
    return Pair(first, second, line)


def _check_counts(pairs: list[Pair], folds: int, each: int) -> list[str]:
    if len(pairs) != folds * each * 2:
        return [f"{len(pairs)} pairs, but line 1 declares {folds} x 2 x {each}"]
    problems = []
    for fold in range(folds):
        part = pairs[fold * each * 2 : (fold + 1) * each * 2]
        same = sum(pair.same for pair in part)
        if same != each:
            problems.append(
                f"lines {part[0].line} to {part[-1].line} (fold {fold + 1}): {same} same pairs, "
                f"but line 1 declares {each}"
            )
    return problems
