"""Steps of a build that are not done twice: a step is known by a hash of all that it depends on.

A step leaves files in one folder, and a record of them in another, written last. It is done if
its record has its key and every file still has the hash that the record gives. So a build that was
killed at any moment goes on where it was, and one whose inputs changed starts that part anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from facenet_common.atomic import write_file
from facenet_common.hashing import sha256_file
from facenet_common.installed import versions_of
from facenet_release.files import remove

PACKAGES = ("converter", "facenet_models", "facenet_release", "parity_tests")
LIBRARIES = ("numpy", "torch", "tensorflow", "onnx", "onnxruntime")


@dataclass(frozen=True)
class Step:
    """What makes `outputs`, files of `folder`, with its `key`.

    `facts` is what it depends on, as JSON; the program's own text and the libraries' versions are
    added to it.
    """

    name: str
    facts: Mapping[str, object]
    outputs: Sequence[str]
    folder: Path
    records: Path

    @property
    def key(self) -> str:
        """A hash of all that the step depends on."""
        said = {"step": self.name, "facts": self.facts, "program": program()}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()

    def record(self) -> dict[str, Any] | None:
        """What the step gave when it was done; None if it must be done."""
        try:
            said = json.loads(self._file.read_bytes())
            hashes = said["outputs"]
            if said["key"] != self.key or list(hashes) != list(self.outputs):
                return None
            for name, sha256 in hashes.items():
                path = self.folder / name
                if path.is_symlink() or sha256_file(path) != sha256:
                    return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return dict(said["result"])

    def do(self, work: Callable[[], Mapping[str, object]]) -> dict[str, Any]:
        """What the step gave before; or `work`, which makes the outputs, is done now."""
        before = self.record()
        if before is not None:
            return before
        for name in self.outputs:
            remove(self.folder / name)
        result = dict(work())
        said = {
            "key": self.key,
            "outputs": {name: sha256_file(self.folder / name) for name in self.outputs},
            "result": result,
        }
        write_file(self._file, json.dumps(said, indent=1).encode())
        return dict(json.loads(json.dumps(result)))  # as it will be read the next time

    @property
    def _file(self) -> Path:
        return self.records / f"{self.name}.json"


@cache
def program() -> dict[str, str]:
    """The versions of what computes: a hash of this program's text, and the libraries."""
    text = hashlib.sha256()
    root = Path(__file__).parents[1]
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.is_file() and path.suffix != ".pyc":
                text.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    return {"text": text.hexdigest(), **versions_of(LIBRARIES)}
