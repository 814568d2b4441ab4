"""Run the two sides of a benchmark, each in a process with a Python of its own."""

from __future__ import annotations

import json
import subprocess
from typing import Any


class Side:
    """A process that runs `code` and prints a line of JSON: first its versions, then answers.

    Attributes:
        name: For messages.
        versions: The first line that it printed.
    """

    def __init__(self, name: str, python: str, code: str, *arguments: object) -> None:
        self.name = name
        self.process = subprocess.Popen(
            [python, "-c", code, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.versions = self._answer()

    def ask(self, *question: object) -> dict[str, Any]:
        """Send a line and return the answer; SystemExit if the process ends without one."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, question)) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: the process ended without an answer")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """Close its input, on which it ends, and wait."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
