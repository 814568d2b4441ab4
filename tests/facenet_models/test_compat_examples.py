"""Uses from facenet-pytorch's README, docstrings and notebooks, with another import.

Their uses, in our words: README.md; examples infer, finetune, lfw_evaluate and face_tracking; the
guide to MTCNN. The code below keeps to their calls, with real photographs and detector weights.
InceptionResnetV1's weights are stand-ins of the published names, shapes and file names: nothing
here depends on what they know. torchvision, which they read folders with, isn't needed; `Folder`
does what its ImageFolder does.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the networks need torch")
pytest.importorskip("PIL", reason="the photographs need Pillow")

import torch
from PIL import Image, ImageDraw
from torch import optim
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import DataLoader, Dataset, SequentialSampler, SubsetRandomSampler

import facenet_models
from facenet_models import (
    MTCNN,
    InceptionResnetV1,
    compat,
    fixed_image_standardization,
    training,
)

GREY_LEVEL = 1 / 128  # of a standardised face


@pytest.fixture(autouse=True)
def here(
    stand_in_weights: Path, reference_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A working folder with the photographs; weights found through the environment, offline."""
    monkeypatch.setenv("FACENET_WEIGHTS", str(stand_in_weights))
    monkeypatch.setenv("FACENET_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    for image in (reference_dir / "images").iterdir():
        Path(image.name).symlink_to(image)


@pytest.fixture(params=["facenet_models", "facenet_pytorch"])
def package(request: pytest.FixtureRequest) -> Iterator[Any]:
    """This package, also under the name that code which can't be edited imports."""
    if request.param == compat.NAME and importlib.util.find_spec(compat.NAME) is not None:
        pytest.skip("facenet-pytorch is installed here")
    if request.param == compat.NAME:
        compat.install_alias()
    yield importlib.import_module(request.param)
    for name in [name for name in sys.modules if name.partition(".")[0] == compat.NAME]:
        del sys.modules[name]


def faces_of_facenet_pytorch(reference_dir: Path) -> Any:
    return np.load(reference_dir / "golden" / "facenet_pytorch_faces.npz")


# --- README ---------------------------------------------------------------------------------------


def test_quick_start(package: Any, reference_dir: Path) -> None:
    mtcnn = package.MTCNN(image_size=160, margin=0)
    resnet = package.InceptionResnetV1(pretrained="vggface2").eval()

    img = Image.open("multiface.jpg")
    img_cropped = mtcnn(img, save_path="cropped.png")
    img_embedding = resnet(img_cropped.unsqueeze(0))
    resnet.classify = True
    img_probs = resnet(img_cropped.unsqueeze(0))

    with faces_of_facenet_pytorch(reference_dir) as faces:
        expected = torch.from_numpy(faces["multiface.PIL.face"])
    assert (img_cropped - expected).abs().max() <= 1.01 * GREY_LEVEL
    saved = np.array(Image.open("cropped.png"))  # as it is in the photograph
    restored = (img_cropped * 128 + 127.5).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(saved, restored)
    assert img_embedding.shape == (1, 512)
    torch.testing.assert_close(img_embedding.norm(dim=1), torch.ones(1))
    assert img_probs.shape == (1, 8631)
    assert img_embedding.requires_grad  # as there: wrap it in torch.no_grad() where unwanted


@pytest.mark.parametrize(("name", "classes"), [("vggface2", 8631), ("casia-webface", 10575)])
def test_pretrained_models(stand_in_weights: Path, name: str, classes: int) -> None:
    model = InceptionResnetV1(pretrained=name).eval()
    (file,) = stand_in_weights.glob(f"*{name}.pt")
    stored = torch.load(file, weights_only=True)
    loaded = model.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in stored.items())
    crops = torch.zeros(2, 3, 160, 160)
    with torch.no_grad():
        embeddings = model(crops)
        model.classify = True
        logits = model(crops)
        again = InceptionResnetV1(pretrained=name, classify=True).eval()(crops)
    assert (embeddings.shape, logits.shape) == ((2, 512), (2, classes))
    assert torch.equal(again, logits)


def test_untrained_models() -> None:
    crops = torch.zeros(1, 3, 160, 160)
    with torch.no_grad():
        assert InceptionResnetV1(num_classes=100).eval()(crops).shape == (1, 512)
        assert InceptionResnetV1(classify=True, num_classes=1001).eval()(crops).shape == (1, 1001)


# --- The docstrings of MTCNN ----------------------------------------------------------------------


def test_a_face_and_its_probability() -> None:
    face_tensor, prob = MTCNN()(Image.open("multiface.jpg"), save_path="face.png", return_prob=True)
    assert face_tensor.shape == (3, 160, 160)
    assert f"{prob:8f}" == "0.999813"  # facenet-pytorch's answer
    assert Path("face.png").is_file()


def test_boxes_and_landmarks_are_drawn(package: Any, reference_dir: Path) -> None:
    mtcnn = package.MTCNN(keep_all=True)
    img = Image.open("multiface.jpg")
    boxes, probs, points = mtcnn.detect(img, landmarks=True)
    img_draw = img.copy()
    draw = ImageDraw.Draw(img_draw)
    for i, (box, point) in enumerate(zip(boxes, points, strict=True)):
        draw.rectangle(box.tolist(), width=5)
        for p in point:
            draw.rectangle((p - 10).tolist() + (p + 10).tolist(), width=10)
        package.extract_face(img, box, save_path=f"detected_face_{i}.png")
    img_draw.save("annotated_faces.png")

    golden = json.loads((reference_dir / "golden" / "facenet_pytorch_detect.json").read_text())
    expected = golden["results"]["images/multiface.jpg|PIL|keep_all"]
    np.testing.assert_allclose(boxes.astype(float), expected["boxes"], rtol=0, atol=0.01)
    np.testing.assert_allclose(points.astype(float), expected["points"], rtol=0, atol=0.01)
    np.testing.assert_allclose(probs.astype(float), expected["probs"], rtol=0, atol=1e-5)
    assert np.any(np.array(img_draw) != np.array(img))
    assert len(list(Path().glob("detected_face_*.png"))) == len(boxes)


# --- The guide to MTCNN ---------------------------------------------------------------------------


def test_normalisation_and_margin(reference_dir: Path) -> None:
    mtcnn = MTCNN(margin=14, post_process=False)
    face = mtcnn(Image.open("multiface.jpg"))
    with faces_of_facenet_pytorch(reference_dir) as faces:
        expected = faces["multiface.PIL.face_margin14_raw"].astype(np.float32)
    np.testing.assert_allclose(face.numpy(), expected, rtol=0, atol=1)
    shown = face.permute(1, 2, 0).int().numpy()
    assert 0 <= shown.min() < shown.max() <= 255
    wide = MTCNN(margin=40, post_process=False)(Image.open("multiface.jpg"))
    assert not torch.equal(wide, face)


def test_all_faces_of_an_image_are_saved() -> None:
    mtcnn = MTCNN(image_size=80, margin=10, keep_all=True)
    faces, probs = mtcnn(Image.open("multiface.jpg"), save_path="all.png", return_prob=True)
    assert faces.shape == (len(probs), 3, 80, 80)
    names = ["all.png", *(f"all_{i}.png" for i in range(2, len(probs) + 1))]
    assert sorted(path.name for path in Path().glob("all*.png")) == sorted(names)


def test_a_batch_of_frames(reference_dir: Path) -> None:
    cv2 = pytest.importorskip("cv2", reason="the video needs OpenCV")
    capture = cv2.VideoCapture(str(reference_dir / "video" / "video.mp4"))
    frames = []
    for _ in range(3):
        _, frame = capture.read()
        frames.append(Image.fromarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)).resize((640, 360)))
    capture.release()
    mtcnn = MTCNN(image_size=96, margin=20, keep_all=True)
    faces = mtcnn(frames, save_path=[f"frame_{i}.jpg" for i in range(len(frames))])
    boxes, _ = mtcnn.detect(frames)
    assert len(faces) == len(boxes) == 3
    for face, own, frame in zip(faces, boxes, frames, strict=True):
        alone, _ = mtcnn.detect(frame)
        np.testing.assert_allclose(own.astype(float), alone.astype(float), atol=0.01)
        assert face.shape == (len(own), 3, 96, 96)
    assert {f"frame_{i}.jpg" for i in range(3)} <= {path.name for path in Path().glob("frame*")}
    arrays, _ = mtcnn.detect(np.stack([np.array(frame) for frame in frames]))
    assert [len(own) for own in arrays] == [len(own) for own in boxes]

    tracked = []  # as the example of face tracking draws them
    for frame, own in zip(frames, boxes, strict=True):
        frame_draw = frame.copy()
        draw = ImageDraw.Draw(frame_draw)
        for box in own:
            draw.rectangle(box.tolist(), outline=(255, 0, 0), width=6)
        tracked.append(frame_draw)
    assert all(np.any(np.array(a) != np.array(b)) for a, b in zip(tracked, frames, strict=True))


def test_an_image_without_a_face() -> None:
    black = Image.new("RGB", (200, 150))
    mtcnn = MTCNN()
    assert mtcnn(black, save_path="none.png") is None
    assert mtcnn(black, return_prob=True) == (None, None)
    boxes, probs = mtcnn.detect(black)
    assert boxes is None
    assert probs == [None]
    assert not Path("none.png").exists()


# --- The example notebooks ------------------------------------------------------------------------


class Folder(Dataset[Any]):
    """Images in a folder for each class, in order, as torchvision's ImageFolder gives them."""

    def __init__(self, root: str, transform: Callable[[Any], Any] | None = None) -> None:
        names = sorted(path.name for path in Path(root).iterdir())
        self.class_to_idx = {name: i for i, name in enumerate(names)}
        self.samples: list[tuple[str, Any]] = [
            (str(path), i)
            for name, i in self.class_to_idx.items()
            for path in sorted((Path(root) / name).iterdir())
        ]
        self.transform = transform

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        path, label = self.samples[index]
        image: Any = Image.open(path).convert("RGB")
        return (self.transform(image) if self.transform else image), label


def to_tensor(image: Any) -> torch.Tensor:
    return fixed_image_standardization(torch.from_numpy(np.float32(image)).permute(2, 0, 1))


class Writer:
    """Takes what tensorboard's SummaryWriter takes."""

    iteration: int
    interval: int

    def __init__(self) -> None:
        self.written: list[tuple[str, str, int]] = []

    def add_scalars(self, name: str, values: dict[str, Any], iteration: int) -> None:
        self.written += [(name, mode, iteration) for mode in values]


@pytest.fixture
def people() -> str:
    """A folder of photographs for each of three people."""
    group = Image.open("multiface.jpg")
    boxes, _ = MTCNN(keep_all=True).detect(group)
    for name, box in zip(("a", "b"), boxes, strict=False):
        left, top, right, bottom = box.tolist()
        wide, high = (right - left) / 2, (bottom - top) / 2
        own = group.crop((int(left - wide), int(top - high), int(right + wide), int(bottom + high)))
        Path("people", name).mkdir(parents=True)
        for side in (240, 250, 260):
            own.resize((side, side)).save(f"people/{name}/{side}.png")
    Path("people/hopkins").mkdir()
    for number in (1, 2):
        Image.open(f"Anthony_Hopkins_000{number}.jpg").save(f"people/hopkins/{number}.png")
    return "people"


def test_inference_pipeline(people: str) -> None:
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    mtcnn = MTCNN(
        image_size=160, margin=0, min_face_size=20,
        thresholds=[0.6, 0.7, 0.7], factor=0.709, post_process=True,
        device=device,
    )  # fmt: skip
    resnet = InceptionResnetV1(pretrained="vggface2").eval().to(device)
    dataset = Folder(people)
    names_of = {i: c for c, i in dataset.class_to_idx.items()}
    loader = DataLoader(dataset, collate_fn=lambda x: x[0], num_workers=0)
    aligned, names = [], []
    for x, y in loader:
        x_aligned, prob = mtcnn(x, return_prob=True)
        if x_aligned is not None:
            assert 0.9 < prob <= 1
            aligned.append(x_aligned)
            names.append(names_of[y])
    embeddings = resnet(torch.stack(aligned).to(device)).detach().cpu()
    dists = [[(e1 - e2).norm().item() for e2 in embeddings] for e1 in embeddings]
    assert names == ["a"] * 3 + ["b"] * 3 + ["hopkins"] * 2
    np.testing.assert_allclose(dists, np.array(dists).T, atol=1e-6)
    # Even untrained: photographs that differ by their size only are nearer than other faces.
    assert dists[0][1] < min(dists[0][3:])


def test_lfw_pipeline(people: str) -> None:
    mtcnn = MTCNN(image_size=160, margin=14, selection_method="center_weighted_size")
    dataset = Folder(people)
    dataset.samples = [(path, path) for path, _ in dataset.samples]
    loader = DataLoader(
        dataset, num_workers=0, batch_size=3, collate_fn=training.collate_pil
    )  # sizes differ within a batch
    crop_paths: list[str] = []
    for x, b_paths in loader:
        crops = [p.replace(people, people + "_cropped") for p in b_paths]
        mtcnn(x, save_path=crops)
        crop_paths.extend(crops)

    cropped = Folder(people + "_cropped", transform=to_tensor)
    embed_loader = DataLoader(
        cropped, num_workers=0, batch_size=4, sampler=SequentialSampler(cropped)
    )
    resnet = InceptionResnetV1(classify=False, pretrained="vggface2")
    resnet.eval()
    classes: list[int] = []
    embeddings: list[np.ndarray] = []
    with torch.no_grad():
        for xb, yb in embed_loader:
            embeddings.extend(resnet(xb).to("cpu").numpy())
            classes.extend(yb.numpy())
    assert crop_paths == [path for path, _ in cropped.samples]
    assert classes == [0, 0, 0, 1, 1, 1, 2, 2]
    assert len(dict(zip(crop_paths, embeddings, strict=True))) == 8


def test_fine_tuning(people: str, capsys: pytest.CaptureFixture[str]) -> None:
    mtcnn = MTCNN(image_size=80)  # smaller than there, to be quick
    dataset = Folder(people, transform=lambda image: image.resize((256, 256)))
    dataset.samples = [(p, p.replace(people, people + "_cropped")) for p, _ in dataset.samples]
    for x, y in DataLoader(dataset, batch_size=32, collate_fn=training.collate_pil):
        mtcnn(x, save_path=y)
    del mtcnn

    torch.manual_seed(5)
    resnet = InceptionResnetV1(
        classify=True, pretrained="vggface2", num_classes=len(dataset.class_to_idx)
    )
    optimizer = optim.Adam(resnet.parameters(), lr=0.001)
    scheduler = MultiStepLR(optimizer, [1, 10])
    cropped = Folder(people + "_cropped", transform=to_tensor)
    train_inds, val_inds = [0, 1, 3, 4, 6, 7], [2, 5]
    loader = {"batch_size": 3, "num_workers": 0}
    train_loader = DataLoader(cropped, sampler=SubsetRandomSampler(train_inds), **loader)  # type: ignore[arg-type] # mixed values
    val_loader = DataLoader(cropped, sampler=SubsetRandomSampler(val_inds), **loader)  # type: ignore[arg-type] # mixed values
    loss_fn = torch.nn.CrossEntropyLoss()
    metrics = {"fps": training.BatchTimer(), "acc": training.accuracy}
    writer = Writer()
    writer.iteration, writer.interval = 0, 2
    common: dict[str, Any] = {"batch_metrics": metrics, "show_running": True, "device": "cpu"}

    before = resnet.last_linear.weight.detach().clone()
    resnet.eval()
    training.pass_epoch(resnet, loss_fn, val_loader, writer=writer, **common)
    losses = []
    for _ in range(2):
        resnet.train()
        loss, means = training.pass_epoch(
            resnet, loss_fn, train_loader, optimizer, scheduler, writer=writer, **common
        )
        losses.append(loss.item())
        resnet.eval()
        training.pass_epoch(resnet, loss_fn, val_loader, writer=writer, **common)

    assert set(means) == {"fps", "acc"}
    assert losses[1] < losses[0]
    assert not torch.equal(resnet.last_linear.weight, before)
    assert scheduler.get_last_lr() == [pytest.approx(0.0001)]
    assert writer.iteration == 4
    modes = [mode for name, mode, _ in writer.written if name == "loss"]
    assert modes == ["Valid", "Train", "Valid", "Train", "Valid"]
    printed = capsys.readouterr().out
    assert printed.count("Train | ") == 4
    assert printed.count("Valid | ") == 3


def test_every_public_name_of_facenet_pytorch_is_here() -> None:
    assert {*compat.ALIASES[compat.NAME], "training"} <= set(facenet_models.__all__)
