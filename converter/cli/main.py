"""The ``facenet`` group. Commands are entry points, found by name and imported when used."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import click

from converter import __version__

COMMANDS = "facenet.commands"


class LazyGroup(click.Group):
    """A group whose commands come from the entry points `COMMANDS`.

    Packages that are installed beside this one add their commands there, so nothing here imports
    them.
    """

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=COMMANDS)}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 # click's signature
        return sorted(self._entry_points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 # click's signature
        point = self._entry_points().get(cmd_name)
        return point.load() if point else None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "-V", "--version", prog_name="facenet")
def facenet() -> None:
    """Move FaceNet and MTCNN weights from TensorFlow to PyTorch, and prove that nothing changed.

    \b
    Examples:
      facenet convert --checkpoint 20180402-114759 --out vggface2.pt
      facenet inspect 20180402-114759
      facenet diff vggface2.pt other.pt
    """
