"""What MkDocs does beside rendering: makes pages from the program, and mends links out of docs/.

Pages that lie elsewhere in the repository (`PROJECT`) become pages of the site. The reference of
the commands is made from the commands themselves, and the list of messages from the code.
"""

from __future__ import annotations

import html
import inspect
import posixpath
import re
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import click
import messages  # messages.py beside this file; MkDocs puts this folder on the path
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from converter.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]

# Files outside docs/ that are pages, by their path in the repository.
PROJECT = {
    "benchmarks/README.md": "project/benchmarks.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
}
STANDS_FOR = {"README.md": "index.md"}  # the site's first page says what the README says

_LINK = re.compile(r"(?<!!)\[([^\]\n]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
MESSAGES_MARK = "<!-- all messages -->"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that don't lie in docs/."""
    for source, page in PROJECT.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    files.append(File.generated(config, "reference/cli.md", content=cli_reference()))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Fill in the list of messages, and turn links between files of the repository into links
    between pages of the site.
    """
    if MESSAGES_MARK in markdown:
        markdown = markdown.replace(MESSAGES_MARK, messages.tables(messages.Sources().messages()))
    uri = page.file.src_uri
    elsewhere = {page: source for source, page in PROJECT.items()}
    return relink(markdown, source=elsewhere.get(uri, f"docs/{uri}"), page=uri)


# --- links ----------------------------------------------------------------------------------------


def relink(markdown: str, *, source: str, page: str) -> str:
    """`markdown`, its links rewritten: it lies at `source` in the repository, and is `page`.

    A link to a file that exists and is no page becomes its text; any other link that leads
    nowhere is left for MkDocs to report.
    """

    def replace(match: re.Match[str]) -> str:
        text, target = match.groups()
        path, hash_mark, anchor = target.partition("#")
        if ":" in path or not path:
            return match[0]
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        other = PROJECT.get(wanted) or STANDS_FOR.get(wanted) or _within_docs(wanted)
        if other is None:
            return text if (ROOT / wanted).exists() else match[0]
        relative = posixpath.relpath(other, posixpath.dirname(page) or ".")
        return f"[{text}]({relative}{hash_mark}{anchor})"

    parts, at = [], 0
    for fence in _FENCE.finditer(markdown):  # code is left alone
        parts += [_LINK.sub(replace, markdown[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, _LINK.sub(replace, markdown[at:])])


def _within_docs(path: str) -> str | None:
    return path.removeprefix("docs/") if path.startswith("docs/") else None


# --- the commands ---------------------------------------------------------------------------------


def cli_reference() -> str:
    """A section for every ``facenet`` command, from the command itself."""
    points = sorted(entry_points(group=COMMANDS), key=lambda point: point.name)
    intro = (
        "# Commands\n\nThis page is made from the program, and says what `--help` says. Every "
        "command has `-h` or `--help`; `convert` is also a program of its own. What the exit "
        "codes mean is in [Troubleshooting](../troubleshooting.md#exit-codes).\n"
    )
    return "\n".join([intro, *(text for p in points for text in sections(p.name, p.load()))])


def sections(name: str, command: click.Command) -> Iterator[str]:
    """A section for the command, and one for each that is below it."""
    context = click.Context(command, info_name=f"facenet {name}")
    yield section(name, command, context)
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            below = command.get_command(context, child)
            if below is not None:
                yield from sections(f"{name} {child}", below)


def section(name: str, command: click.Command, context: click.Context) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    lines = [f"## facenet {name}", "", "```text", usage, "```", "", *prose(command.help or "")]
    for parameter in command.get_params(context):
        names, text = parameter.get_help_record(context) or ("", "")
        if text:  # an argument has none: the paragraphs above explain it
            lines += [f"`{names}`", f":   {escaped(text)}", ""]
    return "\n".join(lines)


def prose(help_text: str) -> Iterator[str]:
    """Paragraphs as Markdown; one that begins with click's mark \\b is shown as it stands."""
    for paragraph in inspect.cleandoc(help_text).split("\n\n"):
        first, _, rest = paragraph.partition("\n")
        if first.strip() == "\b":
            title, _, examples = rest.partition("\n")
            yield from [title, "", "```sh", inspect.cleandoc(examples), "```", ""]
        else:
            yield from [escaped(" ".join(paragraph.split())), ""]


def escaped(text: str) -> str:
    """`text` of a terminal as Markdown: nothing but code in backticks is markup."""
    spans = re.split(r"(`[^`]*`)", text)
    return "".join(span if span.startswith("`") else _without_markup(span) for span in spans)


def _without_markup(text: str) -> str:
    return re.sub(r"([\\*_\[\]#])", r"\\\1", html.escape(text, quote=False))
