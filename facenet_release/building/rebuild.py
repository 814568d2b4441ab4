"""``facenet release rebuild``: build a release again and compare the bytes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from facenet_common.errors import UsageError
from facenet_release.building.build import build
from facenet_release.building.workers import OnProgress
from facenet_release.checking.check import CheckOptions, check
from facenet_release.documents.canonical_json import read_small_file
from facenet_release.documents.manifest import MANIFEST, RECIPE, Role, parse
from facenet_release.documents.recipe import read

# The roles of the files that must be equal on every machine. Evidence has figures and versions,
# which may differ with other libraries, and so may the documents that repeat them.
EXACT: tuple[Role, ...] = ("weights", "recipe")


@dataclass(frozen=True)
class Rebuilt:
    """The files of a release and of its rebuild: equal, different, only in one of them."""

    same: tuple[str, ...]
    different: tuple[str, ...]
    gone: tuple[str, ...]
    new: tuple[str, ...]
    roles: dict[str, Role]

    @property
    def reproduced(self) -> bool:
        """Whether every file that must be equal is, and none is gone or new."""
        return not self.gone and not self.new and not self.wrong

    @property
    def wrong(self) -> tuple[str, ...]:
        """The files that differ and must be equal."""
        return tuple(name for name in self.different if self.roles[name] in EXACT)


def rebuild(folder: Path, inputs: Path, processes: int | None, on_progress: OnProgress) -> Rebuilt:
    """Build the release in `folder` again, from its own recipe, and compare the files.

    Args:
        folder: The release.
        inputs: The folder that the recipe's relative paths start from. A source that is not there
            is searched for as by `converter.convert`.
        processes, on_progress: As for `build`.

    Raises:
        UsageError: `inputs` is not a folder.
        FacenetError: As `check` and `build`.

    Examples:
        >>> rebuild(Path("dist"), Path(), None, lambda *_: None).reproduced  # doctest: +SKIP
        True
    """
    if not inputs.is_dir():
        raise UsageError(
            "the folder of inputs does not exist",
            file=inputs,
            next_step="name the folder that the paths in the release's release.toml start from",
        )
    before = check(folder, CheckOptions()).manifest.by_name()
    with tempfile.TemporaryDirectory(prefix="facenet-rebuild-") as name:
        out = Path(name) / "release"
        built = build(read(folder / RECIPE, inputs), out, processes, on_progress)
        after = parse(read_small_file(built.folder, MANIFEST)).by_name()
    both = before.keys() & after.keys()
    same = {name for name in both if before[name].sha256 == after[name].sha256}
    return Rebuilt(
        same=tuple(sorted(same)),
        different=tuple(sorted(both - same)),
        gone=tuple(sorted(before.keys() - both)),
        new=tuple(sorted(after.keys() - both)),
        roles={file.name: file.role for file in (before | after).values()},
    )
