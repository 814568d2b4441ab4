"""``facenet embed`` and ``facenet lfw``: what they write, print and exit with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click import Option
from click.testing import CliRunner, Result

from facenet_models.cli import embed as embed_module
from facenet_models.cli import lfw as lfw_module
from facenet_models.lfw.protocol import evaluate, read_pairs
from facenet_models.recognition import Embeddings

torch = pytest.importorskip("torch")
image_module = pytest.importorskip("PIL.Image")

build = embed_module.build  # the real one, which the tests below replace but for the last
PEOPLE = 8
FOLDS = 2


class Colour(torch.nn.Module):  # type: ignore[misc] # torch comes from importorskip
    """Embeds a crop as its mean colour."""

    def forward(self, x: Any) -> Any:
        return x.mean(dim=(2, 3))


def find(images: list[Any]) -> list[Any]:
    """A face, the whole image, unless it is black."""
    faces = [torch.tensor(np.asarray(i.resize((8, 8))) / 255.0).permute(2, 0, 1) for i in images]
    return [face.float() if face.any() else None for face in faces]


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Quick networks in place of the real ones; what the commands asked for."""
    calls: list[tuple[Any, ...]] = []

    def build(*args: Any) -> tuple[Any, Any]:
        calls.append(args)
        return Colour(), None if args[2] else find

    monkeypatch.setattr(embed_module, "build", build)
    monkeypatch.setattr(lfw_module, "build", build)
    return calls


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Two images of each person, in LFW's form, each person with a colour."""
    rng = np.random.default_rng(0)
    for person in range(PEOPLE):
        folder = tmp_path / "album" / f"P{person}"
        folder.mkdir(parents=True)
        colour = rng.integers(40, 215, 3)
        for number in (1, 2):
            shade = tuple((colour + rng.integers(-20, 21, 3)).tolist())
            image_module.new("RGB", (9, 9), shade).save(folder / f"P{person}_{number:04d}.png")
    return tmp_path / "album"


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    lines = [f"{FOLDS}\t4"]
    for fold in range(FOLDS):
        lines += [f"P{fold * 4 + i}\t1\t2" for i in range(4)]
        lines += [f"P{fold * 4 + i}\t1\tP{(fold * 4 + i + 1) % PEOPLE}\t2" for i in range(4)]
    (tmp_path / "pairs.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "pairs.txt"


def run(command: Any, *args: object) -> Result:
    result = CliRunner().invoke(command, [str(arg) for arg in args])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def embed(*args: object) -> Result:
    return run(embed_module.command, *args)


def lfw(*args: object) -> Result:
    return run(lfw_module.command, *args)


def test_embed_writes_a_file_and_lists_the_misses(
    album: Path, tmp_path: Path, asked: list[tuple[Any, ...]]
) -> None:
    image_module.new("RGB", (9, 9)).save(album / "P3" / "black.png")
    (album / "P5" / "broken.jpg").write_bytes(b"")
    out = tmp_path / "out.npz"
    result = embed(album, "--weights", "w.pt", "--detector-weights", "nets", "--out", out)
    assert result.exit_code == 0, result.output
    assert f"{out}: 16 embeddings of 3 numbers, 8 identities, in " in result.stdout
    assert "2 images without an embedding:" in result.stderr
    assert (
        "  P3/black.png: no face found\n  P5/broken.jpg: unreadable: not an image" in result.stderr
    )
    got = Embeddings.load(out)
    assert got.names == tuple(f"P{i // 2}/P{i // 2}_{i % 2 + 1:04d}.png" for i in range(16))
    assert [miss.name for miss in got.misses] == ["P3/black.png", "P5/broken.jpg"]
    for name, vector in zip(got.names, got.vectors, strict=True):
        with image_module.open(album / name) as image:
            assert vector.tolist() == pytest.approx([v / 255 for v in image.getpixel((0, 0))])
    assert asked == [("w.pt", Path("nets"), False, 160, 0, "cpu")]


def test_embed_prints_json(album: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (album / "P5" / "broken.jpg").write_bytes(b"")
    out = tmp_path / "out.parquet"
    result = embed(album, "--weights", "w.pt", "--aligned", "--flip", "--out", out, "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data.pop("seconds") >= 0
    assert data == {
        "out": str(out),
        "embeddings": 16,
        "size": 6,
        "identities": 8,
        "misses": [{"name": "P5/broken.jpg", "reason": "unreadable: not an image"}],
    }
    assert result.stderr == ""
    assert len(Embeddings.load(out)) == 16


def test_embed_lists_only_the_first_of_many_misses(album: Path, tmp_path: Path) -> None:
    for i in range(25):
        (album / f"x{i:02d}.jpg").write_bytes(b"")
    result = embed(album, "--weights", "w.pt", "--aligned", "--out", tmp_path / "x.npz")
    assert result.stderr.count("unreadable") == 20
    assert "and 5 more; --json lists all" in result.stderr


def test_embed_counts_one_as_one(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    image_module.new("RGB", (9, 9), (90, 80, 70)).save(tmp_path / "one" / "x.png")
    (tmp_path / "one" / "y.png").write_bytes(b"")
    out = tmp_path / "x.npz"
    result = embed(tmp_path / "one", "--weights", "w.pt", "--aligned", "--out", out)
    assert f"{out}: 1 embedding of 3 numbers, 1 identity, in " in result.stdout
    assert "1 image without an embedding:" in result.stderr


def test_help_explains_which_face_is_used() -> None:
    text = " ".join(embed("--help").stdout.split())
    assert "If an image shows several faces, only the largest is used." in text


def test_messages_speak_of_options_and_of_a_next_step(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.npz"
    out.touch()
    exists = embed(album, "--weights", "w.pt", "--out", out)
    assert "pass --overwrite" in exists.stderr
    assert "=True" not in exists.stderr
    absent = embed("no-such-album", "--weights", "w.pt", "--out", tmp_path / "y.npz", "--json")
    step = json.loads(absent.stdout)["next_step"]
    assert step == f"check the path; it is looked for in {Path.cwd()}"
    pairs = lfw(album, "--pairs", tmp_path / "no.txt", "--weights", "w.pt", "--json")
    assert json.loads(pairs.stdout)["next_step"] == "check the path"


@pytest.mark.parametrize("name", ["model.ckpt-1.index", "20180402.pb"])
def test_a_checkpoint_is_to_be_converted_first(
    album: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(embed_module, "build", build)
    checkpoint = tmp_path / "20180402-demo"
    checkpoint.mkdir()
    args = (album, "--weights", checkpoint, "--aligned", "--out", tmp_path / "x.npz", "--json")
    told = json.loads(embed(*args).stdout)
    assert (told["problem"], told["file"]) == (
        "expected a weight file, got a folder",
        str(checkpoint),
    )
    assert "convert" not in told["next_step"]
    (checkpoint / name).touch()
    result = embed(*args)
    assert result.exit_code == 2
    assert json.loads(result.stdout)["next_step"] == (
        f"convert it first: facenet convert --checkpoint {checkpoint} --out 20180402-demo.pt"
    )


def test_embed_without_a_single_face_fails_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "dark").mkdir()
    image_module.new("RGB", (9, 9)).save(tmp_path / "dark" / "x.png")
    result = embed(tmp_path / "dark", "--weights", "w.pt", "--out", tmp_path / "x.npz")
    assert result.exit_code == 1
    assert "none of the 1 images has an embedding" in result.stderr
    assert "x.png: no face found" in result.stderr
    assert not (tmp_path / "x.npz").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("{album}", "--out", "{tmp}/x.npz"), "missing option --weights"),
        (("{album}", "--weights", "w.pt"), "Missing option '--out'"),
        (("{album}", "--weights", "w.pt", "--out", "{tmp}/x.csv"), ".npz or .parquet"),
        (("{album}", "--weights", "w.pt", "--out", "{tmp}/no/x.npz"), "folder does not exist"),
        (("{album}", "--weights", "w.pt", "--out", "{tmp}/pairs.npz"), "exists already"),
        (("{tmp}/no", "--weights", "w.pt", "--out", "{tmp}/x.npz"), "no such folder"),
        (("{tmp}/empty", "--weights", "w.pt", "--out", "{tmp}/x.npz"), "no image in the folder"),
        (("{album}", "--weights", "w.pt", "--out", "{tmp}/x.npz", "--batch-size", "0"), "0 is not"),
    ],
)
def test_embed_refuses_wrong_usage_before_any_network_is_built(
    album: Path, tmp_path: Path, asked: list[Any], args: tuple[str, ...], message: str
) -> None:
    (tmp_path / "pairs.npz").touch()
    (tmp_path / "empty").mkdir()
    result = embed(*(arg.format(album=album, tmp=tmp_path) for arg in args))
    assert result.exit_code == 2
    assert message in result.stderr
    assert asked == []
    assert (tmp_path / "pairs.npz").read_bytes() == b""


def test_embed_overwrites_if_told(album: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.npz"
    out.touch()
    assert embed(album, "--weights", "w", "--aligned", "--out", out, "--overwrite").exit_code == 0
    assert len(Embeddings.load(out)) == 16


def test_lfw_measures_what_the_library_does(
    album: Path, pairs_file: Path, tmp_path: Path, asked: list[Any]
) -> None:
    (album / "P0" / "unneeded.png").write_bytes(b"")  # no pair names it: nobody looks at it
    result = lfw(album, "--pairs", pairs_file, "--weights", "w.pt", "--aligned", "--folds", 2)
    assert result.exit_code == 0, result.output
    assert asked == [("w.pt", None, True, 160, 0, "cpu")]
    embed(album, "--weights", "w.pt", "--aligned", "--out", tmp_path / "x.npz")
    embeddings = Embeddings.load(tmp_path / "x.npz")
    expected = evaluate(embeddings, read_pairs(pairs_file), 2)
    assert result.stdout == expected.summary() + "\n"
    assert "8 same, 8 different, 0 left out; 2 folds" in result.stdout
    again = lfw("--embeddings", tmp_path / "x.npz", "--pairs", pairs_file, "--folds", 2)
    assert again.stdout == result.stdout


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        ((), {}),
        (("--metric", "cosine"), {"metric": "cosine"}),
        (("--subtract-mean",), {"subtract_mean": True}),
        (("--exact",), {"exact": True}),
    ],
)
def test_lfw_passes_its_options_on(
    tmp_path: Path, pairs_file: Path, flags: tuple[str, ...], options: dict[str, Any]
) -> None:
    rng = np.random.default_rng(1)
    names = tuple(f"P{i // 2}/P{i // 2}_{i % 2 + 1:04d}.jpg" for i in range(2 * PEOPLE))
    vectors = np.repeat(rng.normal(size=(PEOPLE, 4)), 2, axis=0) + rng.normal(size=(16, 4))
    embeddings = Embeddings(names, vectors.astype(np.float32))
    embeddings.save(tmp_path / "x.npz")
    result = lfw(
        "--embeddings", tmp_path / "x.npz", "--pairs", pairs_file, "--folds", 2, "--json", *flags
    )
    assert result.exit_code == 0, result.output
    got = json.loads(result.stdout)
    assert got == evaluate(embeddings, read_pairs(pairs_file), 2, **options).to_json()
    plain = evaluate(embeddings, read_pairs(pairs_file), 2).to_json()
    assert (got == plain) == (not flags)


def test_lfw_lists_the_pairs_that_it_leaves_out(album: Path, pairs_file: Path) -> None:
    (album / "P1" / "P1_0002.png").unlink()
    (album / "P6" / "P6_0001.png").write_bytes(b"")
    args = (album, "--pairs", pairs_file, "--weights", "w.pt", "--aligned", "--folds", 2)
    result = lfw(*args)
    assert result.exit_code == 0, result.output
    assert "6 same, 6 different, 4 left out" in result.stdout
    assert result.stderr.splitlines() == [
        "4 pairs left out:",
        "  line 3: P1/P1_0002: no such image",
        "  line 6: P1/P1_0002: no such image",
        "  line 12: P6/P6_0001: unreadable: not an image",
        "  line 16: P6/P6_0001: unreadable: not an image",
    ]
    data = json.loads(lfw(*args, "--json").stdout)
    assert [out["line"] for out in data["left_out"]] == [3, 6, 12, 16]
    assert data["left_out"][0]["pair"] == "P1/P1_0001 P1/P1_0002"
    assert data["pairs"] == {"same": 6, "different": 6}


def test_lfw_draws_the_curve(album: Path, pairs_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "roc.png"
    args = (album, "--pairs", pairs_file, "--weights", "w", "--aligned", "--folds", 2)
    result = lfw(*args, "--plot", plot)
    assert result.exit_code == 0, result.output
    assert f"Plot      {plot}" in result.stdout
    with image_module.open(plot) as image:
        assert image.width > 500
    again = lfw(*args, "--plot", plot)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert lfw(*args, "--plot", plot, "--overwrite").exit_code == 0


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("{album}",), 2, "pass FOLDER and --weights, or --embeddings"),
        (("--weights", "w.pt"), 2, "pass FOLDER and --weights, or --embeddings"),
        (("{album}", "--embeddings", "{tmp}/x.npz"), 2, "can't be used with --embeddings"),
        (("--flip", "--embeddings", "{tmp}/x.npz"), 2, "can't be used with --embeddings"),
        (("--embeddings", "{tmp}/absent.npz"), 2, "no such file"),
        (("--embeddings", "{tmp}/x.npz"), 1, "expected a file of embeddings"),
        (("{tmp}", "--weights", "w.pt"), 2, "none of the images"),
        (("{album}", "--weights", "w.pt", "--aligned", "--folds", "9"), 1, "can't be evaluated"),
        (("{album}", "--weights", "w.pt", "--plot", "{tmp}/x.gif"), 2, ".png or .pdf or .svg"),
    ],
)
def test_lfw_refuses_wrong_usage(
    album: Path, pairs_file: Path, tmp_path: Path, args: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "x.npz").write_bytes(b"nonsense")
    result = lfw("--pairs", pairs_file, *(a.format(album=album, tmp=tmp_path) for a in args))
    assert result.exit_code == code
    assert message in result.stderr
    as_json = lfw(
        "--pairs", pairs_file, "--json", *(a.format(album=album, tmp=tmp_path) for a in args)
    )
    assert as_json.exit_code == code
    assert "problem" in json.loads(as_json.stdout)


@pytest.mark.parametrize("command", [embed_module.command, lfw_module.command])
def test_help_has_examples_and_exit_codes(command: Any) -> None:
    text = run(command, "--help").stdout
    assert "  Examples:\n    facenet " in text
    assert "Exit codes: 0 " in text
    for option in command.params:
        assert not isinstance(option, Option) or option.help, option


def test_real_photographs_and_the_real_networks(
    reference_dir: Path, built: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facenet_models import MTCNN

    monkeypatch.setattr(embed_module, "build", build)
    monkeypatch.setattr(lfw_module, "build", build)
    torch.save(built.state_dict(), tmp_path / "w.pt")
    models = ("--weights", tmp_path / "w.pt", "--detector-weights", reference_dir / "published")
    folder = tmp_path / "lfw" / "Anthony_Hopkins"
    folder.mkdir(parents=True)
    for name in ("Anthony_Hopkins_0001.jpg", "Anthony_Hopkins_0002.jpg"):
        (folder / name).symlink_to(reference_dir / "images" / name)
    image_module.new("RGB", (250, 250)).save(folder / "black.png")

    result = embed(tmp_path / "lfw", *models, "--out", tmp_path / "x.npz", "--json")
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["misses"] == [{"name": "Anthony_Hopkins/black.png", "reason": "no face found"}]
    got = Embeddings.load(tmp_path / "x.npz")
    assert got.labels == ("Anthony_Hopkins", "Anthony_Hopkins")
    detector = MTCNN(weights=reference_dir / "published")
    for name, vector in zip(got.names, got.vectors, strict=True):
        face = detector(image_module.open(tmp_path / "lfw" / name))
        with torch.no_grad():
            alone = built(face[None])[0].numpy()
        np.testing.assert_allclose(vector, alone, rtol=0, atol=2e-6)

    few = lfw(tmp_path / "lfw", "--pairs", reference_dir / "pairs.txt", *models)
    assert few.exit_code == 1
    assert "5999 pairs left out" in few.stderr  # all but line 5418


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--aligned", "--margin", "4"), "can't be used with --aligned"),
        (("--aligned", "--detector-weights", "x"), "can't be used with --aligned"),
        (("--aligned", "--device", "abacus"), "unknown kind of device"),
        (
            ("--aligned", "--device", "cuda:99"),
            f"torch {torch.__version__} has no device 'cuda:99'",
        ),
        (("--aligned",), "nobody.pt"),
    ],
)
def test_networks_that_cannot_be_built(
    album: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.setattr(embed_module, "build", build)
    out = tmp_path / "x.npz"
    result = embed(album, "--weights", tmp_path / "nobody.pt", "--out", out, *args)
    assert result.exit_code in (1, 2)
    assert message in result.stderr
    assert not out.exists()
