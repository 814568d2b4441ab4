"""Training for real, and the numbers that an epoch reports."""

from __future__ import annotations

import copy
import inspect
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="training needs torch")

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from facenet_models import InceptionResnetV1, training

COUNT, BATCH = 24, 8


@pytest.fixture
def loader() -> DataLoader[Any]:
    """Three classes, each bright in a channel of its own: easy to learn."""
    generator = torch.Generator().manual_seed(4)
    labels = torch.arange(COUNT) % 3
    images = 0.3 * torch.randn(COUNT, 3, 6, 6, generator=generator)
    images[torch.arange(COUNT), labels] += 1
    return DataLoader(TensorDataset(images, labels), batch_size=BATCH)


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


class Writer(SimpleNamespace):
    """Looks like tensorboard's, with the two attributes that users add."""

    def __init__(self, interval: int) -> None:
        super().__init__(iteration=0, interval=interval, rows=[])

    def add_scalars(self, name: str, values: dict[str, Tensor], step: int) -> None:
        (mode, value), *_ = values.items()
        self.rows.append((name, mode, step, float(value)))


def test_signatures_are_those_of_facenet_pytorch() -> None:
    def names(function: Any) -> list[str]:
        return list(inspect.signature(function).parameters)

    assert names(training.pass_epoch) == [
        "model",
        "loss_fn",
        "loader",
        "optimizer",
        "scheduler",
        "batch_metrics",
        "show_running",
        "device",
        "writer",
    ]
    assert names(training.Logger) == ["mode", "length", "calculate_mean"]
    assert names(training.BatchTimer) == ["rate", "per_sample"]
    assert names(training.accuracy) == ["logits", "y"]
    assert names(training.collate_pil) == ["x"]


def test_training_learns_and_evaluating_changes_nothing(
    model: nn.Module, loader: DataLoader[Any]
) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    metrics = {"accuracy": training.accuracy, "fps": training.BatchTimer()}

    def epoch() -> tuple[Tensor, dict[str, Tensor]]:
        return training.pass_epoch(
            model, nn.CrossEntropyLoss(), loader, optimizer, batch_metrics=metrics
        )

    first, _ = epoch()
    for _ in range(8):
        last, found = epoch()
    assert last < first / 4
    assert found["accuracy"] == 1
    assert found["fps"] > 0
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    epoch()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_epoch_is_the_plain_loop(model: nn.Module, loader: DataLoader[Any]) -> None:
    plain, loss_fn = copy.deepcopy(model), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for x, y in loader:
        optimizer.zero_grad()
        loss_fn(plain(x), y).backward()
        optimizer.step()
    graphs: list[bool] = []

    def metric(answer: Tensor, _: Tensor) -> Tensor:
        graphs.append(answer.requires_grad)
        return torch.zeros(())

    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    training.pass_epoch(model, loss_fn, loader, optimizer, batch_metrics={"metric": metric})
    for found, expected in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(found, expected)
    training.pass_epoch(model.eval(), loss_fn, loader, batch_metrics={"metric": metric})
    assert graphs == 3 * [True] + 3 * [False]


def test_results_are_means_over_the_batches(
    model: nn.Module, loader: DataLoader[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    model.eval()
    loss_fn = nn.CrossEntropyLoss()
    mean, metrics = training.pass_epoch(
        model, loss_fn, loader, batch_metrics={"accuracy": training.accuracy}
    )
    with torch.no_grad():
        losses = [loss_fn(model(x), y) for x, y in loader]
        hits = torch.cat([model(x).argmax(1) == y for x, y in loader])
    torch.testing.assert_close(mean, torch.stack(losses).mean())
    torch.testing.assert_close(metrics["accuracy"], hits.float().mean())
    assert not mean.requires_grad
    lines = capsys.readouterr().out.split("\r")
    assert lines[0] == ""
    expected = torch.stack(losses).cumsum(0) / torch.arange(1, 4)
    for i, line in enumerate(lines[1:]):
        assert line.startswith(f"Valid | {i + 1:5d}/3    | loss: {expected[i]:9.4f} | accuracy: ")
        assert line.endswith("\n") == (i == 2)
    training.pass_epoch(model, loss_fn, loader, show_running=False)
    lines = capsys.readouterr().out.split("\r")[1:]
    assert [line.split("loss: ")[1][:9] for line in lines] == [f"{loss:9.4f}" for loss in losses]
    assert all("| time: " in line for line in lines)


def test_the_scheduler_steps_once_per_training_epoch(
    model: nn.Module, loader: DataLoader[Any]
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    training.pass_epoch(model, nn.CrossEntropyLoss(), loader, optimizer, scheduler)
    assert scheduler.get_last_lr() == [0.5]
    model.eval()
    training.pass_epoch(model, nn.CrossEntropyLoss(), loader, optimizer, scheduler)
    assert scheduler.get_last_lr() == [0.5]


def test_the_writer_gets_batches_in_training_and_means_in_evaluation(
    model: nn.Module, loader: DataLoader[Any]
) -> None:
    writer = Writer(interval=2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    metrics = {"accuracy": training.accuracy}
    arguments = (model, nn.CrossEntropyLoss(), loader, optimizer, None, metrics, True, "cpu")
    training.pass_epoch(*arguments, writer)
    assert [row[:3] for row in writer.rows] == [
        ("loss", "Train", 0),
        ("accuracy", "Train", 0),
        ("loss", "Train", 2),
        ("accuracy", "Train", 2),
    ]
    assert writer.iteration == 3
    writer.rows.clear()
    model.eval()
    mean, means = training.pass_epoch(*arguments, writer)
    assert writer.rows == [
        ("loss", "Valid", 3, float(mean)),
        ("accuracy", "Valid", 3, float(means["accuracy"])),
    ]
    assert writer.iteration == 3


def test_what_cannot_work_is_refused_before_it_starts(
    model: nn.Module, loader: DataLoader[Any]
) -> None:
    with pytest.raises(ValueError, match="needs an optimizer"):
        training.pass_epoch(model, nn.CrossEntropyLoss(), loader)
    with pytest.raises(ValueError, match="no batches"):
        training.pass_epoch(model.eval(), nn.CrossEntropyLoss(), [])


@pytest.mark.parametrize(
    ("rate", "per_sample", "expected"),
    [(True, True, 2.0), (True, False, 0.5), (False, True, 0.5), (False, False, 2.0)],
)
def test_the_timer(
    monkeypatch: pytest.MonkeyPatch, rate: bool, per_sample: bool, expected: float
) -> None:
    clock = iter([10.0, 12.0, 14.0])
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    timer = training.BatchTimer(rate, per_sample)
    for _ in range(2):
        assert timer(torch.zeros(4, 3), torch.zeros(4)) == expected


def test_a_time_of_nothing_is_an_infinite_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.time, "perf_counter", lambda: 1.0)
    assert training.BatchTimer()(torch.zeros(1), torch.zeros(1)) == float("inf")


def test_accuracy() -> None:
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 3.0], [0.0, -1.0]])
    assert training.accuracy(logits, torch.tensor([1, 0, 0, 0])) == 0.75


def test_collate_pil_keeps_what_cannot_be_stacked() -> None:
    images = [object(), object()]
    assert training.collate_pil(zip(images, "ab", strict=True)) == (images, ["a", "b"])


def test_one_step_of_the_real_network() -> None:
    torch.manual_seed(6)
    model = InceptionResnetV1(classify=True, num_classes=3)
    before = model.conv2d_1a.conv.weight.detach().clone()
    batch = (torch.randn(4, 3, 80, 80), torch.tensor([0, 1, 2, 0]))
    loss, metrics = training.pass_epoch(
        model,
        nn.CrossEntropyLoss(),
        [batch],
        torch.optim.Adam(model.parameters(), lr=1e-3),
        batch_metrics={"acc": training.accuracy},
    )
    assert loss > 0
    assert 0 <= metrics["acc"] <= 1
    assert not torch.equal(model.conv2d_1a.conv.weight, before)
