"""Train or evaluate a model over one epoch, as facenet-pytorch's module ``training`` does.

Names, parameters and results are those of facenet-pytorch 2.6.0
(https://github.com/timesler/facenet-pytorch/blob/master/models/utils/training.py), except that

* without metrics, each `pass_epoch` has its own timer. In facenet-pytorch one timer serves all
  epochs, so the first batch of an epoch includes the pause before it;
* evaluation never builds a gradient graph, whatever the caller has set;
* training without an optimizer, and an empty loader, raise ValueError at once;
* a time too short to measure gives an infinite rate, not a ZeroDivisionError.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

X = TypeVar("X")
Y = TypeVar("Y")
Metric = Callable[[Tensor, Tensor], Tensor]


class Logger:
    """Print one line per epoch, and rewrite it after each batch.

    Args:
        mode: Label of the epoch: "Train" or "Valid".
        length: Number of batches, after which the line is complete.
        calculate_mean: The values passed are sums over all batches so far; print their means.

    Examples:
        >>> logger = Logger("Train", length=1)
        >>> logger(0.5, {"acc": 1.0}, 0)  # doctest: +SKIP
        Train |     1/1    | loss:    0.5000 | acc:    1.0000
    """

    def __init__(self, mode: str, length: int, calculate_mean: bool = False) -> None:
        self.mode = mode
        self.length = length
        self.calculate_mean = calculate_mean

    def __call__(self, loss: Tensor | float, metrics: Mapping[str, Any], i: int) -> None:
        """Print the loss and the metrics of batch `i`, counted from 0."""
        count = i + 1 if self.calculate_mean else 1
        head = f"\r{self.mode} | {i + 1:5d}/{self.length:<5d}| loss: {loss / count:9.4f} | "
        shown = " | ".join(f"{name}: {value / count:9.4f}" for name, value in metrics.items())
        print(f"{head}{shown}   ", end="" if i + 1 < self.length else "\n", flush=True)


class BatchTimer:
    """A metric that measures the time from one call to the next.

    Args:
        rate: Return samples or batches per second; else seconds per sample or batch.
        per_sample: Count samples; else batches.

    Examples:
        >>> timer = BatchTimer(per_sample=False)
        >>> bool(timer(torch.zeros(8, 2), torch.zeros(8)) > 0)
        True
    """

    def __init__(self, rate: bool = True, per_sample: bool = True) -> None:
        self.rate = rate
        self.per_sample = per_sample
        self.start = time.perf_counter()

    def __call__(self, y_pred: Tensor, y: Tensor) -> Tensor:  # noqa: ARG002 # a metric takes both
        """Return the rate or the time since the last call, as a float32 scalar."""
        now = time.perf_counter()
        elapsed, self.start = now - self.start, now
        if self.per_sample:
            elapsed /= len(y_pred)
        if not self.rate:
            return torch.tensor(elapsed)
        return torch.tensor(1 / elapsed if elapsed else float("inf"))


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Return the fraction of rows of `logits` whose maximum is at `y`, as a scalar.

    Args:
        logits: ``(N, classes)``.
        y: ``(N,)``, the true classes.

    Examples:
        >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        tensor(0.5000)
    """
    return (logits.argmax(dim=1) == y).float().mean()


def pass_epoch(
    model: nn.Module,
    loss_fn: Callable[[Tensor, Tensor], Tensor],
    loader: Any,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: Any = None,
    batch_metrics: Mapping[str, Metric] | None = None,
    show_running: bool = True,
    device: torch.device | str = "cpu",
    writer: Any = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Train (after ``model.train()``) or evaluate (after ``model.eval()``) over all of `loader`.

    Args:
        model: Must be on `device` already.
        loss_fn: Function of the model's output and the labels that returns a scalar, the mean of
            the batch.
        loader: Yields batches ``(x, y)`` and has a length, as `torch.utils.data.DataLoader`.
        optimizer: Steps after each batch in training.
        scheduler: Of the learning rate; steps at the end of an epoch in training.
        batch_metrics: Functions of the output and the labels, called after each batch. Default:
            ``{"time": BatchTimer()}``.
        show_running: Print means over the batches so far; else the values of each batch.
        device: Batches are moved to this device.
        writer: A SummaryWriter of tensorboard, or another object with ``add_scalars``, with two
            additional int attributes, ``iteration`` and ``interval``. In training, every
            ``interval``-th batch is written, and ``iteration`` is incremented after each batch. In
            evaluation, the means are written at the end.

    Returns:
        The mean loss and the mean of each metric over the batches, as scalars on the CPU.

    Raises:
        ValueError: `loader` has no batch, or there is no optimizer for a model in training mode.

    Examples:
        >>> loss, metrics = pass_epoch(  # doctest: +SKIP
        ...     model.train(), torch.nn.CrossEntropyLoss(), loader, optimizer
        ... )
    """
    if model.training and optimizer is None:
        raise ValueError("training needs an optimizer; call model.eval() first to evaluate")
    if len(loader) == 0:
        raise ValueError("the loader has no batches")
    metrics_of = {"time": BatchTimer()} if batch_metrics is None else batch_metrics
    training, mode = model.training, "Train" if model.training else "Valid"
    logger = Logger(mode, len(loader), calculate_mean=show_running)
    loss_sum, sums, batches = torch.zeros(()), dict[str, Tensor](), 0
    for x, y in loader:
        labels = y.to(device)
        with torch.set_grad_enabled(training):
            output = model(x.to(device))
            loss = loss_fn(output, labels)
        if training and optimizer is not None:
            loss.backward()  # type: ignore[no-untyped-call] # torch's own lacks types
            optimizer.step()
            optimizer.zero_grad()
        loss = loss.detach().cpu()
        values = {
            name: metric(output, labels).detach().cpu() for name, metric in metrics_of.items()
        }
        loss_sum = loss_sum + loss
        sums = {name: sums.get(name, 0) + value for name, value in values.items()}
        if writer is not None and training:
            if writer.iteration % writer.interval == 0:
                _write(writer, mode, loss, values)
            writer.iteration += 1
        if show_running:
            logger(loss_sum, sums, batches)
        else:
            logger(loss, values, batches)
        batches += 1
    if training and scheduler is not None:
        scheduler.step()
    mean, means = loss_sum / batches, {name: value / batches for name, value in sums.items()}
    if writer is not None and not training:
        _write(writer, mode, mean, means)
    return mean, means


def collate_pil(x: Iterable[tuple[X, Y]]) -> tuple[list[X], list[Y]]:
    """Collate a batch to a list of images and a list of labels, for images that can't be stacked.

    Examples:
        >>> collate_pil([("image 1", 0), ("image 2", 1)])
        (['image 1', 'image 2'], [0, 1])
    """
    pairs: Sequence[tuple[X, Y]] = list(x)
    return [image for image, _ in pairs], [label for _, label in pairs]


def _write(writer: Any, mode: str, loss: Tensor, metrics: Mapping[str, Tensor]) -> None:
    for name, value in {"loss": loss, **metrics}.items():
        writer.add_scalars(name, {mode: value}, writer.iteration)
