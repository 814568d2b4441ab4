"""What the tests of the channels do alike: publish a tiny release, and hear what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from converter.errors import FacenetError
from converter.progress import Listener
from facenet_release.channels import open_channel
from facenet_release.manifest import Manifest

Tiny = tuple[Path, Manifest]  # a folder, and what its manifest says


class Heard(Listener):
    """Remembers the stages' sizes, what was done of the last, and what was said."""

    def __init__(self) -> None:
        self.stages: dict[str, int] = {}
        self.done = 0
        self.said: list[str] = []

    @property
    def total(self) -> int:
        """The size of the last stage."""
        return list(self.stages.values())[-1]

    def stage(self, name: str, total: int) -> None:
        self.stages[name], self.done = total, 0

    def say(self, text: str) -> None:
        self.said.append(text)

    def advance(self, size: int) -> None:
        assert size > 0
        self.done += size


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def publish_to(address: str, tiny: Tiny) -> Heard:
    heard = Heard()
    open_channel(address).publish(files_of(tiny[0]), tiny[1], heard)
    return heard


def shown_by(job: Callable[[], object]) -> list[str]:
    """All that the error of `job` and its causes show; nothing where there is none."""
    try:
        job()
    except FacenetError as error:
        texts = [str(error.to_json())]
        seen: BaseException | None = error
        while seen is not None:
            texts += [str(seen), repr(seen), repr(vars(seen))]
            seen = seen.__cause__
        return texts
    return []
