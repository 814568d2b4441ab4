"""The notebooks in examples/: each runs from top to bottom, and shows what it should show.

A notebook's own last cells assert what must hold of its results. Here it is looked at from
outside: that it ran in a process of its own, drew its pictures, wrote its files, and printed no
warning. `examples/render.py` is what a person renders them with, so that is tested too.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
HELPERS = {"pictures", "render", "sample_data"}
TOOLS = ("jupytext", "nbclient", "nbformat", "ipykernel", "matplotlib", "torch", "PIL")
# TensorFlow 2.21 logs these before it can be told not to; see parity_tests.frameworks.
TENSORFLOW_NOTES = re.compile(r"^(?:WARNING: All log messages|[EI]0000 ).*\n", re.MULTILINE)
FOREIGN = ("FACENET_", "LFW_", "PYTEST_")  # variables of this process that no notebook is to see


class Expected(NamedTuple):
    """The expected output of a notebook: pictures at least, files in output/, printed words."""

    pictures: int
    files: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


EXPECTED = {
    "convert_checkpoint": Expected(
        2,
        ("convert_checkpoint/vggface2.pt",),
        ("identical to the source, bit for bit", "checksum mismatch"),
    ),
    "detector_comparison": Expected(2, (), ("taking part: ours",), ("av",)),
    "face_tracking": Expected(
        2,
        ("face_tracking/tracked.mp4",),
        ("130 frames written", "1920 x 1080 pixels"),
        ("av",),
    ),
    "fast_mtcnn": Expected(2, (), ("frames/s",), ("av",)),
    "find_the_broken_layer": Expected(
        3,
        ("find_the_broken_layer/reference.h5",),
        ("PASSED: ", "FAILED at Repeat_1/block17_4", "epsilon 1e-05, the reference's is 0.001"),
        ("tensorflow", "h5py"),
    ),
    "finetune": Expected(4, ("finetune/classifier.pt",), ("RANDOM weights",), ("av",)),
    "infer": Expected(3, (), ("NOTE: trained weights", "8 embeddings of 512 numbers")),
    "lfw_evaluate": Expected(2, (), ("NOTE: trained", "60 pairs in 5 folds"), ("av",)),
    "mtcnn_guide": Expected(
        8,
        ("mtcnn_guide/faces/multiface/face_6.png",),
        ("boxes (6, 4)", "no face [None]"),
    ),
}
NOTEBOOKS = [
    pytest.param(
        name,
        marks=[pytest.mark.tensorflow] if "tensorflow" in expected.needs else [],
    )
    for name, expected in EXPECTED.items()
]


def require(*modules: str) -> None:
    for module in modules:  # found, not imported: a notebook has a process of its own
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"needs {module}, which is not installed")


def render(
    *names: str, folder: Path, script: Path = EXAMPLES / "render.py", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run render.py in `folder`, with no network and no weights of the machine's user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    environment = kept | {
        "FACENET_OFFLINE": "1",
        "TORCH_HOME": str(folder / "no-cache"),
        "OMP_NUM_THREADS": "1",
        **variables,
    }
    call = [sys.executable, str(script), *names, "--out", str(folder)]
    return subprocess.run(
        call, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def outputs(path: Path) -> tuple[int, str, str]:
    """Of an executed notebook: number of pictures, what it printed, and what went to stderr."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    found = [output for cell in cells for output in cell.get("outputs", [])]
    pictures = sum("image/png" in output.get("data", {}) for output in found)
    streams = {"stdout": "", "stderr": ""}
    for output in found:
        if output["output_type"] == "stream":
            streams[output["name"]] += "".join(output["text"])
    return pictures, streams["stdout"], TENSORFLOW_NOTES.sub("", streams["stderr"]).strip()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_and_shows_what_it_should(
    name: str, reference_dir: Path, tmp_path: Path
) -> None:
    expected = EXPECTED[name]
    require(*TOOLS, *expected.needs)
    done = render(name, folder=tmp_path, FACENET_REFERENCE_DIR=str(reference_dir))
    assert done.returncode == 0, done.stderr[-4000:]
    pictures, printed, complaints = outputs(tmp_path / f"{name}.ipynb")
    assert pictures >= expected.pictures
    assert complaints == ""
    for word in expected.words:
        assert word in printed
    for file in expected.files:
        assert (tmp_path / "output" / file).stat().st_size > 0
    if name == "face_tracking":
        check_video(tmp_path / "output" / expected.files[0])


def check_video(path: Path) -> None:
    """Every frame is there, by other code than the notebook's: a second of black, and 105."""
    import av

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert len(frames) == 25 + 105
    assert all(frame.max() < 20 for frame in frames[:25])
    assert all(frame.max() > 100 for frame in frames[25:])


def test_without_reference_data_there_are_other_pictures(
    reference_dir: Path, tmp_path: Path
) -> None:
    require(*TOOLS, "av")
    weights = str(reference_dir / "published")
    done = render("infer", folder=tmp_path, FACENET_WEIGHTS=weights)
    assert done.returncode == 0, done.stderr[-4000:]
    _, printed, complaints = outputs(tmp_path / "infer.ipynb")
    assert complaints == ""
    assert "put together from one that matplotlib brings along" in printed
    assert "group.png: 3 face(s)" in printed


def test_own_pictures_come_first(reference_dir: Path, tmp_path: Path) -> None:
    require(*TOOLS)
    own = tmp_path / "own"
    own.mkdir()
    for name in ("Anthony_Hopkins_0001.jpg", "Anthony_Hopkins_0002.jpg"):
        (own / name).symlink_to(reference_dir / "images" / name)
    done = render(
        "infer",
        folder=tmp_path,
        FACENET_REFERENCE_DIR=str(reference_dir),
        FACENET_EXAMPLES_DATA=str(own),
    )
    assert done.returncode == 0, done.stderr[-4000:]
    _, printed, _ = outputs(tmp_path / "infer.ipynb")
    assert "2 embeddings of 512 numbers" in printed


@pytest.fixture
def sample_data(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    require("numpy", "PIL", "torch")
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("sample_data")


@pytest.mark.parametrize(
    ("files", "photographs", "video"),
    [
        ((), "ref", "ref"),
        (("own/own.png",), "own", "ref"),
        (("own/own.png", "own/own.mp4"), "own", "own"),
    ],
)
def test_the_folder_that_is_told_is_the_one_looked_in(
    files: tuple[str, ...],
    photographs: str,
    video: str,
    sample_data: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from PIL import Image

    variables = {"own": "FACENET_EXAMPLES_DATA", "ref": "FACENET_REFERENCE_DIR"}
    for folder, variable in variables.items():
        monkeypatch.setenv(variable, str(tmp_path / folder))
    for file in ("ref/images/ref.png", "ref/video/ref.mp4", *files):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 3)).save(path) if path.suffix == ".png" else path.touch()

    assert list(sample_data.photographs()) == [f"{photographs}.png"]
    assert f"the folder that {variables[photographs]} names" in capsys.readouterr().out
    assert sample_data.video().name == f"{video}.mp4"
    assert f"{video}.mp4, from the folder that {variables[video]} names" in capsys.readouterr().out


def own_notebook(folder: Path, name: str, cells: str) -> Path:
    """Write a notebook and a copy of render.py to `folder`; gives the copy, which renders it."""
    script = folder / "render.py"
    script.write_text((EXAMPLES / "render.py").read_text(encoding="utf-8"), encoding="utf-8")
    header = (EXAMPLES / "infer.py").read_text(encoding="utf-8").partition("# %%")[0]
    (folder / f"{name}.py").write_text(header + cells, encoding="utf-8")
    return script


@pytest.mark.parametrize(
    ("code", "word"), [("assert 1 + 1 == 3", "AssertionError"), ("print(", "SyntaxError")]
)
def test_a_notebook_that_fails_is_noticed(code: str, word: str, tmp_path: Path) -> None:
    require(*TOOLS)
    cells = f"# %%\nprint('before')\n\n# %%\n{code}\n\n# %%\nprint('after')\n"
    script = own_notebook(tmp_path, "bad", cells)
    done = render("bad", folder=tmp_path, script=script)
    assert done.returncode == 1
    assert "bad: FAILED" in done.stdout
    assert word in done.stderr
    assert "\x1b" not in done.stderr  # colours are for terminals
    _, printed, _ = outputs(tmp_path / "bad.ipynb")
    assert printed == "before\n"


def test_relative_folders_mean_where_render_was_started(tmp_path: Path) -> None:
    require(*TOOLS)
    names = ["FACENET_EXAMPLES_DATA", "FACENET_REFERENCE_DIR", "FACENET_WEIGHTS", "LFW_DIR"]
    cells = f"# %%\nimport os\n\nfor name in {names}:\n    print(os.environ[name])\n"
    (tmp_path / "code").mkdir()
    script = own_notebook(tmp_path / "code", "shown", cells)

    def printed(**variables: str) -> list[str]:
        done = render("shown", folder=tmp_path, script=script, **variables)
        assert done.returncode == 0, done.stderr
        return outputs(tmp_path / "shown.ipynb")[1].splitlines()

    relative = printed(**{name: f"./{name.lower()}" for name in names})
    assert relative == [str(tmp_path / name.lower()) for name in names]
    others = ("", "/else/where", "oci://host/name:v1", "")
    assert printed(**dict(zip(names, others, strict=True))) == list(others)


def test_an_unknown_notebook_is_wrong_usage(tmp_path: Path) -> None:
    done = render("nonsense", folder=tmp_path)
    assert done.returncode == 2
    assert "no such notebook: nonsense" in done.stderr


# --- the folder


def test_every_notebook_is_tested_and_listed() -> None:
    present = {path.stem for path in EXAMPLES.glob("*.py")} - HELPERS
    assert present == set(EXPECTED)
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| \[(\w+)\]\(\1\.py\) \|", readme, re.MULTILINE)) == present


@pytest.mark.parametrize("name", EXPECTED)
def test_links_lead_somewhere(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (EXAMPLES / target).exists(), target


def test_every_variable_is_documented() -> None:
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        for variable in re.findall(r"\"((?:FACENET|LFW)_[A-Z_]+)\"", path.read_text("utf-8")):
            assert f"`{variable}`" in readme, variable
