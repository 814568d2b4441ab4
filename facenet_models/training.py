"""Training and evaluating over an epoch, as facenet-pytorch's ``training`` offers it.

Same names, parameters and results as facenet-pytorch 2.6.0 (``models/utils/training.py``), except
that

* each `pass_epoch` that is given no metrics times with a timer of its own, so that the pause
  between two epochs counts nowhere; there, one timer lives as long as the program;
* evaluating builds no graph of gradients, whatever the caller has set;
* training without an optimizer, and an empty loader, are a ValueError at once;
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
    """Prints one line per epoch, rewritten after each batch.

    Args:
        mode: What to call the epoch: "Train" or "Valid".
        length: Its number of batches; the line is finished after as many.
        calculate_mean: The values passed in are sums over all batches so far: print their means.
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
    """A metric: how fast batches go by, from one call to the next.

    Args:
        rate: Give a rate, samples or batches per second; else seconds per sample or batch.
        per_sample: Count samples; else batches.
    """

    def __init__(self, rate: bool = True, per_sample: bool = True) -> None:
        self.rate = rate
        self.per_sample = per_sample
        self.start = time.perf_counter()

    def __call__(self, y_pred: Tensor, y: Tensor) -> Tensor:  # noqa: ARG002 # a metric takes both
        """A float32 scalar; the clock starts anew."""
        now = time.perf_counter()
        elapsed, self.start = now - self.start, now
        if self.per_sample:
            elapsed /= len(y_pred)
        if not self.rate:
            return torch.tensor(elapsed)
        return torch.tensor(1 / elapsed if elapsed else float("inf"))


def accuracy(logits: Tensor, y: Tensor) -> Tensor:
    """Share of rows of `logits`, ``(N, classes)``, whose greatest is at `y`, ``(N,)``: a scalar."""
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
    """Train (``model.train()`` before) or evaluate (``model.eval()``) over all of `loader`.

    Args:
        model: It must be on `device` already.
        loss_fn: Takes the model's answer and the labels; gives a scalar, the batch's mean.
        loader: Batches ``(x, y)``; it has a length, as a `torch.utils.data.DataLoader`.
        optimizer: Steps after each batch in training.
        scheduler: Of the learning rate; steps at the end of an epoch in training.
        batch_metrics: Functions of the answer and the labels, called after each batch. Default:
            ``{"time": BatchTimer()}``.
        show_running: Print means over the batches so far; else the values of each batch.
        device: Where batches go.
        writer: Of tensorboard, or anything with its ``add_scalars``, to which ``iteration`` and
            ``interval`` were added, both int: in training every ``interval``-th batch is written
            and ``iteration`` counted up, in evaluation the means are written at the end.

    Returns:
        The mean loss and the mean of each metric over the batches, as scalars on the CPU.

    Raises:
        ValueError: `loader` has no batch, or there is no optimizer for a model in training mode.
    """
    if model.training and optimizer is None:
        raise ValueError("training needs an optimizer; call model.eval() first to evaluate")
    if len(loader) == 0:
        raise ValueError("the loader has no batch")
    metrics_of = {"time": BatchTimer()} if batch_metrics is None else batch_metrics
    training, mode = model.training, "Train" if model.training else "Valid"
    logger = Logger(mode, len(loader), calculate_mean=show_running)
    loss_sum, sums, batches = torch.zeros(()), dict[str, Tensor](), 0
    for x, y in loader:
        labels = y.to(device)
        with torch.set_grad_enabled(training):
            answer = model(x.to(device))
            loss = loss_fn(answer, labels)
        if training and optimizer is not None:
            loss.backward()  # type: ignore[no-untyped-call] # torch's own lacks types
            optimizer.step()
            optimizer.zero_grad()
        loss = loss.detach().cpu()
        values = {
            name: metric(answer, labels).detach().cpu() for name, metric in metrics_of.items()
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
    """Images and labels of a batch as two lists, for images that can't be stacked (PIL's)."""
    pairs: Sequence[tuple[X, Y]] = list(x)
    return [image for image, _ in pairs], [label for _, label in pairs]


def _write(writer: Any, mode: str, loss: Tensor, metrics: Mapping[str, Tensor]) -> None:
    for name, value in {"loss": loss, **metrics}.items():
        writer.add_scalars(name, {mode: value}, writer.iteration)
