"""How far a long job is. Light: imports nothing heavy, so that the command line starts fast."""

from __future__ import annotations


class Listener:
    """Told how far a conversion is; this one hears nothing."""

    def stage(self, name: str, total: int) -> None:
        """A stage of `total` bytes begins."""

    def say(self, text: str) -> None:
        """What is being done now, where bytes don't measure it."""

    def advance(self, size: int) -> None:
        """`size` more bytes are done."""
