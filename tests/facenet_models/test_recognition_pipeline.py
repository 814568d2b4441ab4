"""`embed`: every vector beside its own image's name, whatever happens to the others."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facenet_common.errors import FacenetError, UsageError
from facenet_models.recognition import Miss, embed, find_images
from facenet_models.recognition.pipeline import center_crop

torch = pytest.importorskip("torch")
image_module = pytest.importorskip("PIL.Image")

if TYPE_CHECKING:
    from facenet_models import InceptionResnetV1

SIZE = 4  # of the crops below: small, so that tests are quick


class Mean(torch.nn.Module):  # type: ignore[misc] # torch comes from importorskip
    """Embeds a crop as its mean colour and its left upper pixel's red."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))
        self.sizes: list[int] = []
        self.modes: set[bool] = set()

    def forward(self, x: Any) -> Any:
        self.sizes.append(len(x))
        self.modes.add(self.training)
        return torch.cat([x.mean(dim=(2, 3)), x[:, :1, 0, 0]], dim=1) * self.scale


class Finder:
    """Finds a face, the whole image, unless its first pixel's blue is 0; counts its calls."""

    def __init__(self, many: bool = False) -> None:
        self.many = many
        self.calls: list[int] = []

    def __call__(self, images: list[Any]) -> list[Any]:
        assert len({image.size for image in images}) == 1
        self.calls.append(len(images))
        return [self.find(np.asarray(image.resize((SIZE, SIZE)))) for image in images]

    def find(self, pixels: np.ndarray) -> Any:
        if pixels[0, 0, 2] == 0:
            return None
        face = torch.tensor((pixels - 127.5) / 128, dtype=torch.float32).permute(2, 0, 1)
        return torch.stack([face, -face]) if self.many else face


def plain(red: int, blue: int = 255, size: tuple[int, int] = (SIZE, SIZE)) -> Any:
    """An image of one colour; `red` is what its embedding tells."""
    return image_module.new("RGB", size, (red, 0, blue))


def expected(red: int, blue: int = 255) -> list[float]:
    return [(value - 127.5) / 128 for value in (red, 0, blue, red)]


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["face", "wide", "empty", "broken"]), min_size=1, max_size=20),
    batch_size=st.integers(1, 5),
    many=st.booleans(),
)
def test_misses_never_shift_others(
    tmp_path_factory: pytest.TempPathFactory, kinds: list[str], batch_size: int, many: bool
) -> None:
    broken = tmp_path_factory.mktemp("broken") / "x.jpg"
    broken.write_bytes(b"no image")
    make = {
        "face": lambda i: plain(i),
        "wide": lambda i: plain(i, size=(SIZE * 2, SIZE)),
        "empty": lambda i: plain(i, blue=0),
        "broken": lambda _: broken,
    }
    model, finder = Mean(), Finder(many)
    names = [f"{kind}-{i}" for i, kind in enumerate(kinds)]
    got = embed(
        [make[kind](i) for i, kind in enumerate(kinds)],
        model,
        finder,
        batch_size=batch_size,
        names=names,
    )
    seen = [i for i, kind in enumerate(kinds) if kind in ("face", "wide")]
    assert got.names == tuple(names[i] for i in seen)
    assert got.vectors.tolist() == [pytest.approx(expected(i), abs=1e-6) for i in seen]
    reasons = {"empty": "no face found", "broken": "unreadable: not an image"}
    assert got.misses == tuple(
        Miss(name, reasons[kind])
        for name, kind in zip(names, kinds, strict=True)
        if kind in reasons
    )
    assert model.sizes == [batch_size] * (len(seen) // batch_size) + (
        [len(seen) % batch_size] if len(seen) % batch_size else []
    )
    assert max(finder.calls, default=0) <= batch_size
    assert sum(finder.calls) == sum(kind != "broken" for kind in kinds)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Two people, an image beside them, and much that is no image."""
    folder = tmp_path / "album"
    for name, red in (("Bob/1.png", 1), ("Ann/10.png", 10), ("Ann/9.PNG", 9), ("solo.bmp", 3)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        plain(red).save(folder / name)
    (folder / "Bob/more").mkdir()
    plain(4).save(folder / "Bob/more/x.png")
    (folder / "Ann/notes.txt").write_text("no image")
    (folder / ".hidden").mkdir()
    plain(5).save(folder / ".hidden/x.png")
    plain(5).save(folder / "Ann/.x.png")
    (folder / "Ann/again").symlink_to(folder)  # a circle
    (folder / "Cid").symlink_to(folder / "Bob")
    return folder


ALBUM = ("Ann/10.png", "Ann/9.PNG", "Bob/1.png", "Bob/more/x.png", "Cid/1.png", "Cid/more/x.png")


def test_a_folder_is_walked_in_order(album: Path) -> None:
    found = find_images(album)
    assert tuple(found) == (*ALBUM, "solo.bmp")
    assert found["Bob/more/x.png"] == album / "Bob/more/x.png"
    got = embed(album, Mean(), image_size=SIZE)
    assert got.names == tuple(found)
    assert got.labels == ("Ann", "Ann", "Bob", "Bob/more", "Cid", "Cid/more", "solo")
    assert got.vectors[:, 3].tolist() == [
        pytest.approx((red - 127.5) / 128) for red in (10, 9, 1, 4, 1, 4, 3)
    ]


def test_unreadable_images_in_a_folder_are_misses(album: Path) -> None:
    whole = (album / "Bob/1.png").read_bytes()
    (album / "Ann/9.PNG").write_bytes(whole[: len(whole) // 2])
    (album / "Bob/1.png").write_bytes(b"")
    (album / "gone.png").symlink_to(album / "absent.png")
    got = embed(str(album), Mean(), image_size=SIZE)
    assert [miss.name for miss in got.misses] == ["Ann/9.PNG", "Bob/1.png", "Cid/1.png", "gone.png"]
    assert all(miss.reason.startswith("unreadable: ") for miss in got.misses)
    assert got.misses[3].reason == "unreadable: No such file or directory"
    assert got.names == ("Ann/10.png", "Bob/more/x.png", "Cid/more/x.png", "solo.bmp")


def test_images_of_any_kind_are_taken(tmp_path: Path) -> None:
    plain(7).save(tmp_path / "a.png")
    grey = np.full((SIZE, SIZE), 7, np.uint8)
    got = embed(
        [
            tmp_path / "a.png",
            str(tmp_path / "a.png").replace("/a", "//a"),
            plain(7),
            np.asarray(plain(7)),
            grey,
            plain(7).convert("RGBA"),
        ],
        Mean(),
        image_size=SIZE,
    )
    assert got.names[0] == str(tmp_path / "a.png")
    assert got.names[2:] == ("2", "3", "4", "5")
    assert got.vectors[:, 0].tolist() == [pytest.approx((7 - 127.5) / 128)] * 6
    alone = embed(tmp_path / "a.png", Mean(), image_size=SIZE)
    assert alone.names == (str(tmp_path / "a.png"),)


def test_deep_pixels_keep_their_upper_bits(tmp_path: Path) -> None:
    image_module.fromarray(np.full((SIZE, SIZE), 0x07FF, np.uint16)).save(tmp_path / "16.png")
    image_module.fromarray(np.full((SIZE, SIZE), 7, np.float32)).save(tmp_path / "f.tif")
    got = embed(tmp_path, Mean(), image_size=SIZE)
    assert got.names == ("16.png",)
    assert got.vectors[0].tolist() == [pytest.approx((7 - 127.5) / 128)] * 4
    assert got.misses == (Miss("f.tif", "unreadable: its pixels have 32 bits (mode F)"),)


def test_a_photograph_is_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((8, 4, 3), np.uint8)
    pixels[0, 0, 0] = 255  # left upper
    exif = image_module.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees to the right
    stored = image_module.fromarray(np.rot90(pixels))
    stored.save(tmp_path / "x.png", exif=exif)
    seen: list[Any] = []

    def look(images: list[Any]) -> list[None]:
        seen.extend(images)
        return [None] * len(images)

    embed([tmp_path / "x.png"], Mean(), look)
    assert np.array_equal(np.asarray(seen[0]), pixels)


@pytest.mark.parametrize(
    ("wide", "high", "left", "top"), [(4, 4, 0, 0), (6, 4, 1, 0), (7, 9, 1, 2), (5, 4, 0, 0)]
)
def test_crops_are_cut_around_the_middle(wide: int, high: int, left: int, top: int) -> None:
    pixels = np.arange(wide * high * 3, dtype=np.uint8).reshape(high, wide, 3)
    got = np.asarray(center_crop(image_module.fromarray(pixels), 4))
    assert np.array_equal(got, pixels[top : top + 4, left : left + 4])


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (2, 9), (9, 3), (4, 3)])
def test_small_crops_are_enlarged(size: tuple[int, int]) -> None:
    got = np.asarray(center_crop(plain(9, size=size), 4))
    assert got.shape == (4, 4, 3)
    assert (got == (9, 0, 255)).all()  # no padding


def test_flip_appends_the_mirrored_face() -> None:
    pixels = np.zeros((SIZE, SIZE, 3), np.uint8)
    pixels[:, -1, 0] = 200
    got = embed([pixels], Mean(), image_size=SIZE, flip=True)
    other = embed([pixels[:, ::-1].copy()], Mean(), image_size=SIZE)
    assert got.vectors.shape == (1, 8)
    assert got.vectors[0, 4:].tolist() == other.vectors[0].tolist()
    assert got.vectors[0, 3] != got.vectors[0, 7]


def test_the_model_runs_in_evaluation_mode_and_is_put_back() -> None:
    model = Mean()
    embed([plain(1)], model, image_size=SIZE)
    assert model.modes == {False}
    assert model.training
    model.eval()
    embed([plain(1)], model, image_size=SIZE)
    assert not model.training


def test_faces_take_the_type_of_the_model() -> None:
    got = embed([plain(1)], Mean().double(), image_size=SIZE)
    assert got.vectors.dtype == np.float32


def test_the_detector_gets_no_more_pixels_at_once_than_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("facenet_models.recognition.pipeline.DETECT_PIXELS", 3 * SIZE * SIZE)
    finder = Finder()
    embed([plain(i) for i in range(7)], Mean(), finder)
    assert finder.calls == [3, 3, 1]
    finder = Finder()
    embed([plain(i, size=(64, 64)) for i in range(2)], Mean(), finder)
    assert finder.calls == [1, 1]


def test_no_face_in_any_image() -> None:
    got = embed([plain(0, blue=0)] * 2, Mean(), Finder())
    assert len(got) == 0
    assert [miss.name for miss in got.misses] == ["0", "1"]


class Logits(Mean):
    classify = True


class Broken(Mean):
    def forward(self, x: Any) -> Any:
        return super().forward(x) * float("nan")


class Short(Mean):
    def forward(self, x: Any) -> Any:
        return super().forward(x)[1:]


@pytest.mark.parametrize(
    ("images", "model", "options", "message"),
    [
        ([], Mean(), {}, "there is no image to embed"),
        ("absent", Mean(), {}, "no such folder or file"),
        ([plain(1)], Logits(), {}, "(?s)returns logits.*classify = False"),
        ([plain(1)], Broken(), {}, "(?s)NaN.*that of 0.*weights"),
        ([plain(1)], Short(), {}, "(?s)one embedding for each face"),
        ([plain(1)], Mean(), {"detector": lambda _: []}, "detector did not return"),
        ([plain(1)], Mean(), {"names": ["a", "b"]}, "numbers of names and images differ"),
        ([plain(1), plain(2)], Mean(), {"names": ["a", "a"]}, "same name"),
        ([plain(1)], Mean(), {"batch_size": 0}, "at least 1"),
        ([np.zeros((4, 4, 3))], Mean(), {}, "(?s)array 0.*uint8.*float64"),
        ([np.zeros((3, 4, 4), np.uint8)], Mean(), {}, r"(?s)array 0.*\(3, 4, 4\)"),
    ],
)
def test_unusable_images_and_models_are_refused(
    images: Any, model: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(FacenetError, match=message):
        embed(images, model, **({"image_size": SIZE} | options))


def test_folders_without_images_and_with_names_are_refused(tmp_path: Path, album: Path) -> None:
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"(?s)no image.*\.jpg"):
        embed(tmp_path / "empty", Mean())
    with pytest.raises(UsageError, match="names are not allowed"):
        embed(album, Mean(), names=["x"])
    with pytest.raises(UsageError, match="no such folder"):
        find_images(tmp_path / "absent")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "wanted", "shown"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_a_bar_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, terminal: bool, wanted: bool, shown: bool
) -> None:
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    embed([plain(1)] * 3, Mean(), image_size=SIZE, progress=wanted)
    assert ("Images" in stream.getvalue()) == shown
    if terminal and shown:
        assert "3/3" in stream.getvalue()


def test_real_photographs_and_the_real_network(
    reference_dir: Path, built: InceptionResnetV1
) -> None:
    """As read, cut and standardised here, and in batches, as one by one in plain torch."""
    names = ("Anthony_Hopkins_0001.jpg", "Anthony_Hopkins_0002.jpg", "multiface.jpg")
    got = embed(reference_dir / "images", built, batch_size=2)
    assert got.names == names
    assert got.labels == tuple(name.removesuffix(".jpg") for name in names)
    for name, vector in zip(names, got.vectors, strict=True):
        image = image_module.open(reference_dir / "images" / name).convert("RGB")
        left, top = (image.width - 160) // 2, (image.height - 160) // 2
        pixels = np.asarray(image, np.float32)[top : top + 160, left : left + 160]
        with torch.no_grad():
            alone = built(torch.tensor((pixels - 127.5) / 128).permute(2, 0, 1)[None])
        np.testing.assert_allclose(vector, alone[0].numpy(), rtol=0, atol=2e-6)
    assert np.linalg.norm(got.vectors, axis=1) == pytest.approx(1, abs=1e-6)
