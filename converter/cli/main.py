"""The ``facenet`` group. Its commands are entry points, imported when they are used."""

from __future__ import annotations

import platform
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points

import click

from converter import __version__

COMMANDS = "facenet.commands"
LIBRARIES = ("numpy", "torch", "tensorflow")  # on which results depend; `facenet doctor` lists all


class LazyGroup(click.Group):
    """A group whose commands are the entry points `COMMANDS`.

    Other packages add their commands there, so that this one does not import them.
    """

    def _entry_points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=COMMANDS)}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 # click's signature
        """Return the names of the commands."""
        return sorted(self._entry_points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 # click's signature
        """Import and return a command, or return None for an unknown name."""
        point = self._entry_points().get(cmd_name)
        return point.load() if point else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve as click does, but suggest other names without importing the commands."""
        name = args[0]
        known = self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            close = " or ".join(map(repr, get_close_matches(name, known)))
            ctx.fail(f"No such command {name!r}." + (f" Did you mean {close}?" if close else ""))
        return super().resolve_command(ctx, args)


def _print_versions(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    """Print the versions of the program and its libraries, from metadata, for bug reports."""
    if not asked or ctx.resilient_parsing:
        return
    from facenet_common.installed import version_of  # its `packaging` takes 40 ms to import

    click.echo(f"facenet, version {__version__}")
    click.echo(f"  python      {platform.python_version()}")
    for name in LIBRARIES:
        click.echo(f"  {name:<10}  {version_of(name) or 'not installed'}")
    ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show the versions of this program and its libraries, and exit.",
)
def facenet() -> None:
    """Move FaceNet and MTCNN weights from TensorFlow to PyTorch, and prove that nothing changed.

    \b
    Examples:
      facenet convert --checkpoint 20180402-114759 --out vggface2.pt
      facenet inspect 20180402-114759
      facenet diff vggface2.pt other.pt
    """
