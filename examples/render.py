"""Run the notebooks of this folder and save their outputs.

    python examples/render.py [NAME ...] [--out FOLDER] [--html]

Each NAME.py (all, if none is named) becomes FOLDER/NAME.ipynb with its outputs, and with
``--html`` FOLDER/NAME.html beside it. What a notebook writes goes to FOLDER/output. The exit
code is 1 if a notebook fails; what it showed until then is kept.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MARK = "#   jupytext:"  # in the header of a notebook
CELL_SECONDS = 300
FOLDERS = ("FACENET_EXAMPLES_DATA", "FACENET_REFERENCE_DIR", "FACENET_WEIGHTS", "LFW_DIR")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # what IPython colours tracebacks with


def notebooks() -> list[str]:
    """Return the names of the notebooks in this folder."""
    files = sorted(HERE.glob("*.py"))
    return [file.stem for file in files if MARK in file.read_text(encoding="utf-8")[:500]]


def execute(name: str, folder: Path) -> tuple[Any, str]:
    """Run the notebook in `folder`; return it with the error that stopped it ("" if none)."""
    import jupytext
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    notebook = jupytext.read(HERE / f"{name}.py")
    manager = AsyncKernelManager(kernel_name="python3")
    if os.name == "posix":  # sockets that are files: no port can be taken, nobody listens in
        manager.transport = "ipc"
        manager.ip = tempfile.mkdtemp(dir=os.environ["JUPYTER_RUNTIME_DIR"]) + "/kernel"
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=CELL_SECONDS,
        resources={"metadata": {"path": str(folder)}},
    )
    try:
        client.execute(cleanup_kc=True)  # it ends only the kernels that it made, unless told
    except CellExecutionError as error:
        return notebook, str(error)
    return notebook, ""


def absolute(place: str) -> str:
    """Return a folder as an absolute path, since kernels run elsewhere; an address as it is."""
    return place if "://" in place or not place else str(Path(place).expanduser().absolute())


def write(notebook: Any, path: Path, html: bool) -> None:
    """Write the notebook with its outputs to `path`, and as a page beside it."""
    import nbformat

    nbformat.write(notebook, path)
    if html:
        from nbconvert import HTMLExporter

        page, _ = HTMLExporter().from_notebook_node(notebook, {"metadata": {"name": path.stem}})
        path.with_suffix(".html").write_text(page, encoding="utf-8")


def main() -> int:
    known = notebooks()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of a notebook, without .py")
    parser.add_argument("--out", type=Path, default=Path("rendered"), help="default: rendered/")
    parser.add_argument("--html", action="store_true", help="write pages too")
    args = parser.parse_args()
    unknown = sorted(set(args.names) - set(known))
    if unknown:
        parser.error(f"no such notebook: {', '.join(unknown)}; there are {', '.join(known)}")
    folder = args.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    # The kernel finds this folder's modules, and nobody's own IPython start-up files.
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ.update({name: absolute(os.environ[name]) for name in FOLDERS if name in os.environ})
    failed = 0
    with tempfile.TemporaryDirectory() as profile:
        os.environ["IPYTHONDIR"] = os.environ["JUPYTER_RUNTIME_DIR"] = profile
        for name in args.names or known:
            started = time.perf_counter()
            notebook, problem = execute(name, folder)
            write(notebook, folder / f"{name}.ipynb", args.html)
            word = "FAILED" if problem else "ran"
            print(f"{name}: {word}, {time.perf_counter() - started:.0f} s", flush=True)
            if problem:
                shown = problem if sys.stderr.isatty() else COLOURS.sub("", problem)
                print(shown, file=sys.stderr)
            failed += bool(problem)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
