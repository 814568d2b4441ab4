"""``facenet release rebuild``: whether a release's recipe still gives the same bytes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from facenet_common.errors import UsageError
from facenet_release.building.build import build
from facenet_release.building.workers import Told
from facenet_release.checking.check import CheckOptions, check
from facenet_release.documents.canonical_json import read_small
from facenet_release.documents.manifest import MANIFEST, File, Role, parse
from facenet_release.documents.recipe import RECIPE, read

# Files that must come out the same anywhere. Evidence holds figures, and names of versions, that
# may be others with other libraries; what is made from it follows.
EXACT: tuple[Role, ...] = ("weights", "recipe")


@dataclass(frozen=True)
class Rebuilt:
    """What became of each file: same bytes, other bytes, only there before, only there now."""

    same: tuple[str, ...]
    different: tuple[str, ...]
    gone: tuple[str, ...]
    new: tuple[str, ...]
    roles: dict[str, Role]

    @property
    def reproduced(self) -> bool:
        """Whether every file that must be the same is, and none is missing or new."""
        return not self.gone and not self.new and not self.wrong

    @property
    def wrong(self) -> tuple[str, ...]:
        """The files that differ and must not."""
        return tuple(name for name in self.different if self.roles[name] in EXACT)


def rebuild(folder: Path, inputs: Path, processes: int | None, told: Told) -> Rebuilt:
    """Build the release in `folder` once more, from its own recipe, and compare.

    `inputs` is the folder that the recipe's relative paths start from; what isn't there is looked
    for where `convert` would. The new build passes every gate and check itself, else this raises
    what `build` raises. UsageError if `inputs` is no folder.
    """
    if not inputs.is_dir():
        raise UsageError(
            "there is no such folder of inputs",
            file=inputs,
            next_step="name the folder that the paths in the release's release.toml start from",
        )
    before = check(folder, CheckOptions()).manifest.by_name()
    with tempfile.TemporaryDirectory(prefix="facenet-rebuild-") as name:
        out = Path(name) / "release"
        built = build(read(folder / RECIPE, inputs), out, processes, told)
        after = parse(read_small(built.folder, MANIFEST)).by_name()
    both = before.keys() & after.keys()
    same = {name for name in both if _equal(before[name], after[name])}
    return Rebuilt(
        same=tuple(sorted(same)),
        different=tuple(sorted(both - same)),
        gone=tuple(sorted(before.keys() - both)),
        new=tuple(sorted(after.keys() - both)),
        roles={file.name: file.role for file in (before | after).values()},
    )


def _equal(one: File, other: File) -> bool:
    return (one.size, one.sha256) == (other.size, other.sha256)
