"""Everything that the READMEs tell a user to type works, and both READMEs tell the same."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from support.pages import (
    ROOT,
    Block,
    assert_output,
    blocks,
    fenced,
    outputs_follow_code,
    page,
    prose,
    run_blocks,
    section,
    shell,
)
from support.small_release import write_inputs

from converter.cli.doctor import VARIABLES
from facenet_models.weights.registry import Pretrained

README = "README.md"
CHINESE = "README_cn.md"

HEADING = re.compile(r"^(#+) ", re.MULTILINE)
TITLE = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#:]+)(?:#([^)]+))?\)")

# Blocks that are not run here, by how they start, with the reason.
EXEMPT = {
    "make convert": "installs from a package registry; what it runs then is tested below",
    "make test": "runs this test",
    "pip install": "installs from a package registry; the extras are compared below",
}
# The sections with code, each followed by a fixture or test below.
FOLLOWED = ("Quick start", "Convert", "Verify", "Release", "Detect and embed", "Install")


def blocks_of(title: str) -> list[Block]:
    return fenced(section(README, title))


def exempt(block: Block) -> bool:
    return any(block.text.startswith(start) for start in EXEMPT)


def follow(title: str, folder: Path) -> tuple[dict[str, object], str]:
    """Run a section's blocks in order, in `folder`: Python's names, and what was printed last.

    What the section shows as output must be what the block before it printed, measured figures
    aside.
    """
    found = (any_figure(block) for block in blocks_of(title) if not exempt(block))
    return run_blocks(found, f"{README}, {title}", folder)


def any_figure(block: Block) -> Block:
    """An output's measured figures stand for any."""
    if block.language != "text":
        return block
    return block._replace(text=re.sub(r"passed +\S+ +", "passed…", block.text))


# --- the sections ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the README names: an untrained checkpoint of full size, and
    MTCNN's nets, the real ones where the reference data is.
    """
    folder = tmp_path_factory.mktemp("readme")
    write = [sys.executable, "-m", "converter.demo", str(folder / "20180402-114759")]
    subprocess.run(write, check=True, capture_output=True)
    sources = folder / "third_party" / "davidsandberg_facenet" / "src" / "align"
    sources.mkdir(parents=True)
    write_inputs(sources)
    return folder


@pytest.fixture(scope="module")
def converted(demo: Path) -> Path:
    """That folder, when the section Convert has been followed."""
    follow("Convert", demo)
    return demo


@pytest.fixture(scope="module")
def released(demo: Path, reference_dir: Path) -> Path:  # noqa: ARG001 # the real nets, by their hashes
    """That folder, when the section Release has been followed."""
    pytest.importorskip("tensorflow", reason="judging needs TensorFlow")
    pytest.importorskip("model_signing", reason="signing needs model-signing")
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    _, rebuilt = follow("Release", demo)
    assert "byte for byte" in rebuilt
    return demo


def test_the_output_shown_is_the_output(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "20180402-demo").symlink_to(demo / "20180402-114759")
    _, shown, _ = blocks_of("Quick start")
    call = "convert --checkpoint demo/20180402-demo --out demo/20180402-demo.pt"
    assert_output(shown.text, shell(call, tmp_path))


def test_convert(converted: Path) -> None:
    for name in ("vggface2.pt", "embeddings.safetensors", "pnet.pt", "tensorflow/checkpoint"):
        assert (converted / name).is_file()


@pytest.mark.tensorflow
def test_verify(converted: Path) -> None:
    pytest.importorskip("torch", reason="the candidate runs in torch")
    _, output = follow("Verify", converted)
    assert "5 of 5 embeddings" in output
    assert (converted / "report.html").is_file()
    assert (converted / "parity.xml").is_file()


@pytest.mark.tensorflow
def test_release(released: Path) -> None:
    for name in ("manifest.json", "SHA256SUMS", "pnet.parity.html", "model.sig"):
        assert (released / "published" / name).is_file()


@pytest.mark.tensorflow
def test_detect_and_embed(
    converted: Path, released: Path, reference_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On real photographs, with the released nets; the demo stands for trained weights."""
    folder, images = released, reference_dir / "images"
    (folder / "photo.jpg").symlink_to(images / "multiface.jpg")
    for image in images.glob("Anthony_*.jpg"):
        (folder / "people" / "Anthony").mkdir(parents=True, exist_ok=True)
        (folder / "people" / "Anthony" / image.name).symlink_to(image)
    (folder / "weights").mkdir()
    for net in ("pnet.pt", "rnet.pt", "onet.pt"):
        (folder / "weights" / net).symlink_to(folder / "published" / net)
    stand_in = folder / "weights" / Pretrained.VGGFACE2.value.file
    stand_in.symlink_to(converted / "vggface2.pt")
    monkeypatch.setenv("FACENET_WEIGHTS", str(folder / "weights"))
    monkeypatch.setenv("FACENET_OFFLINE", "1")

    names, output = follow("Detect and embed", folder)
    assert (folder / "marked" / "photo.jpg").is_file()
    assert len(names["boxes"]) == 6  # type: ignore[arg-type] # an array
    assert tuple(names["embeddings"].shape) == (6, 512)  # type: ignore[attr-defined] # a tensor
    assert output.startswith("people.npz: 2 embeddings")


def test_install_as_a_submodule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    monkeypatch.setenv("REPOSITORY", str(ROOT))
    settings = {"protocol.file.allow": "always", "safe.directory": "*"}
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    for number, (key, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    _, output = follow("Install", tmp_path)
    assert Path(output.strip()) == (
        tmp_path / "third_party" / "facenet-parity" / "facenet_models" / "__init__.py"
    )


def test_every_block_is_followed() -> None:
    assert [block for title in FOLLOWED for block in blocks_of(title)] == blocks(README)
    assert {block.language for block in blocks(README)} == {"sh", "python", "text"}
    assert outputs_follow_code(README)


@pytest.mark.parametrize("start", EXEMPT)
def test_every_exemption_is_used(start: str) -> None:
    found = [block.text for block in blocks(README) if block.text.startswith(start)]
    assert found
    for line in "".join(found).splitlines():  # nothing else hides in an exempt block
        assert line.startswith(start)


# --- commands in sentences ------------------------------------------------------------------------


def commands(name: str) -> list[str]:
    return sorted(set(re.findall(r"`((?:make|python|facenet|convert) [^`]+)`", prose(name))))


@pytest.mark.parametrize("command", commands(README))
def test_commands_in_sentences_are_there(command: str) -> None:
    program, name, *rest = shlex.split(command)
    if program == "make":
        assert re.search(rf"^{name}:", page("Makefile"), re.MULTILINE)
        known = page("benchmarks/convert.py") + page("Makefile")
    elif program == "python":
        known = page(name)
    else:
        (point,) = entry_points(group="facenet.commands", name=name)
        loaded = point.load()
        while rest and rest[0] in getattr(loaded, "commands", {}):
            loaded = loaded.commands[rest.pop(0)]
        known = CliRunner().invoke(loaded, ["--help"]).output
    for option in re.findall(r"--[a-z-]+|[A-Z]+(?==)", command):
        assert option in known


# --- tables and figures ---------------------------------------------------------------------------


def table(title: str) -> list[list[str]]:
    """The rows of the tables of a section, headings and rules included, cell by cell."""
    rows = re.findall(r"^\| (.*) \|$", section(README, title), re.MULTILINE)
    return [[cell.strip() for cell in row.split(" |")] for row in rows]


def test_the_models_are_those_of_the_registry() -> None:
    classifier = 513 * 4  # bytes to a class: 512 weights and a bias, float32
    base = 111_906_444 - 8631 * classifier  # what `convert` writes
    (*_, heading), _, *rows = table("Pretrained models")
    for entry, row in zip((e.value for e in Pretrained), rows, strict=True):
        name, checkpoint, accuracy, training_set, classes, embedding, size, input_size = row
        assert name == f"`{entry.name}`"
        assert training_set == entry.training_set
        assert accuracy == (str(entry.lfw_accuracy) if entry.lfw_accuracy else "")
        assert classes == (str(entry.classes) if entry.classes else "")
        assert embedding == (str(entry.embedding_size) if entry.embedding_size else "")
        assert entry.image_size is not None
        assert input_size.removeprefix("from ") == "{}x{}".format(*entry.image_size)
        if entry.classes:
            assert entry.file.startswith(checkpoint)
            assert size == f"{(base + entry.classes * classifier) / 1e6:.0f} MB"
        colours, scale, _ = entry.preprocessing.split(", ")
        assert heading == f"Input, {colours}"
        assert f"`{scale}`" in section(README, "Pretrained models")


def test_the_sizes_of_files(converted: Path, reference_dir: Path) -> None:
    assert (converted / "vggface2.pt").stat().st_size == pytest.approx(111_906_444, abs=1000)
    for name, *_, size, _ in table("Pretrained models")[-3:]:
        file = reference_dir / "published" / f"{name.strip('`')}.pt"
        assert size == f"{file.stat().st_size / 1000:.0f} kB"


def test_the_speeds_of_detection_are_those_of_the_benchmark() -> None:
    measured = re.findall(
        r"^\| (\d+x\d+) \| (\d) \| (.*?) \| (.*?) \| (.*?) \|",
        section("benchmarks/README.md", "Detecting faces"),
        re.MULTILINE,
    )
    expected = [
        [size, batch, frames(ours), frames(theirs), ratio]
        for size, batch, ours, theirs, ratio in measured
    ]
    assert len(expected) == 6
    assert table("Measured")[2:8] == expected


def frames(milliseconds: str) -> str:
    """Frames a second, of a figure or a range in milliseconds a frame."""
    ends = sorted(1000 / float(end) for end in milliseconds.split(" to "))
    return " to ".join(f"{end:.1f}" for end in ends)


def test_all_other_figures_are_from_the_benchmarks() -> None:
    benchmark = "benchmarks/README.md"
    ours = median("Converting", "`convert` to `.pt`")
    script = median("Converting", "obvious script")
    bold = r" \| \*\*([\d,]+)\*\*"
    total = re.search(rf"^\| \*\*total\*\*{bold}{bold}", page(benchmark), re.MULTILINE)
    gates = section("docs/verify.md", "The gates")
    float64 = re.search(r"^\| float64 .* \| (\S+) \(embeddings\)", gates, re.MULTILINE)
    float32 = re.search(r"^\| float32 .* \| (\S+) \(embeddings\)", gates, re.MULTILINE)
    assert total
    assert float64
    assert float32
    shown = [re.findall(r"(?<!float)\b\d[\d.,e-]*\d", " ".join(row)) for row in table("Measured")]
    assert shown[-4:] == [
        [*ours, *script],
        [median("Verifying", "`facenet verify`")[0], median("Verifying", "the script")[0]],
        [float64[1], float32[1]],
        [total[2], total[1]],
    ]


def median(title: str, row: str) -> tuple[str, str]:
    """Median seconds and peak megabytes, of the row of that table of the benchmarks."""
    found = re.search(
        rf"^\| {re.escape(row)}[^|`]* \| (.*?) \| .* \| (.*) \|$",
        section("benchmarks/README.md", title),
        re.MULTILINE,
    )
    assert found
    return found[1], found[2]


def test_every_variable_is_explained() -> None:
    _, _, *rows = table("Environment variables")
    told = set(re.findall(r"`(\w+)`", " ".join(name for name, _ in rows)))
    assert set(VARIABLES) <= told
    assert {name for name in told if name.startswith("FACENET_")} <= set(VARIABLES)


def test_every_extra_is_explained() -> None:
    extras = page("pyproject.toml").partition("[project.optional-dependencies]\n")[2]
    declared = re.findall(r"^(\w+) = \[", extras.partition("\n[")[0], re.MULTILINE)
    told = [name.strip("`") for name, _ in table("Install")[3:]]
    assert sorted(told) == sorted(declared)
    used = re.findall(r"\[(\w+)\]", "".join(block.text for block in blocks_of("Install")))
    assert used
    assert set(used) <= set(declared)


# --- the Chinese README ---------------------------------------------------------------------------


def test_both_have_the_same_blocks() -> None:
    assert blocks(CHINESE) == blocks(README)


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(HEADING.findall, id="headings"),
        pytest.param(re.compile(r"^\|", re.MULTILINE).findall, id="table rows"),
        pytest.param(re.compile(r"^(?:- |\d\. )", re.MULTILINE).findall, id="list items"),
        pytest.param(lambda text: sorted(set(re.findall(r"`[^`\n]+`", text))), id="code"),
        pytest.param(lambda text: sorted(re.findall(r"\d+(?:[.,]\d+)*", text)), id="figures"),
        pytest.param(lambda text: sorted(set(re.findall(r"https?://[^)]+", text))), id="addresses"),
    ],
)
def test_both_have_the_same_structure(part: Callable[[str], list[str]]) -> None:
    assert part(prose(CHINESE)) == part(prose(README))


# --- pictures and links ---------------------------------------------------------------------------


def drawing(name: str) -> tuple[list[str], list[str]]:
    """The shapes of a picture, and its words."""
    shapes, words = [], []
    for element in ElementTree.fromstring(page(f"docs/images/{name}")).iter():
        tag = element.tag.rpartition("}")[2]
        shapes.append(f"{tag} {sorted(element.attrib.items())}")
        if tag in ("text", "title", "desc"):
            words.append(element.text or "")
    return shapes, words


def test_the_pictures_are_one_in_two_languages() -> None:
    (english, words), (chinese, translated) = drawing("flow.svg"), drawing("flow_cn.svg")
    assert english == chinese
    assert all(words)
    assert all(translated)
    assert any(a != b for a, b in zip(words, translated, strict=True))


@pytest.mark.parametrize("name", ["flow.svg", "flow_cn.svg"])
def test_pictures_need_nothing_else(name: str) -> None:
    text = page(f"docs/images/{name}").replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"href|url\(|@import|<script|https?:", text)


def links() -> Iterator[tuple[Path, str, str]]:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        yield from ((path, *link) for link in LINK.findall(path.read_text(encoding="utf-8")))


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = TITLE.findall(path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_within_the_project_lead_somewhere() -> None:
    for path, target, anchor in links():
        where = path.parent / target
        assert where.exists(), f"{path.name}: {target}"
        if anchor and where.suffix == ".md":
            assert anchor in anchors(where), f"{path.name}: {target}#{anchor}"
