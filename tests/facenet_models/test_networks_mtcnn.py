"""P-, R- and O-Net against the published weights, the original's outputs, and a plain oracle."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="the networks need torch")

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facenet_models import ONet, PNet, RNet

NETS: dict[str, type[nn.Module]] = {"pnet": PNet, "rnet": RNet, "onet": ONet}
OUTPUTS = {
    "pnet": ("regression", "probability"),
    "rnet": ("regression", "probability"),
    "onet": ("regression", "landmarks", "probability"),
}
# The layers as the original lists them (src/align/detect_face.py at 096ed77): a convolution and
# its PReLU, with the pooling after it as (size, TensorFlow's padding), or a dense layer and its
# PReLU; then the outputs in the order in which they are returned.
LAYERS: dict[str, list[tuple[str, str, tuple[int, str] | None]]] = {
    "pnet": [
        ("conv1", "prelu1", (2, "SAME")),
        ("conv2", "prelu2", None),
        ("conv3", "prelu3", None),
    ],
    "rnet": [
        ("conv1", "prelu1", (3, "SAME")),
        ("conv2", "prelu2", (3, "VALID")),
        ("conv3", "prelu3", None),
        ("dense4", "prelu4", None),
    ],
    "onet": [
        ("conv1", "prelu1", (3, "SAME")),
        ("conv2", "prelu2", (3, "VALID")),
        ("conv3", "prelu3", (2, "SAME")),
        ("conv4", "prelu4", None),
        ("dense5", "prelu5", None),
    ],
}
HEADS = {
    "pnet": ("conv4_2", "conv4_1"),
    "rnet": ("dense5_2", "dense5_1"),
    "onet": ("dense6_2", "dense6_3", "dense6_1"),
}
SIZES = {"pnet": (37, 54), "rnet": (24, 24), "onet": (48, 48)}


def seeded(name: str) -> nn.Module:
    """A float64 net whose every parameter, PReLU slopes included, is its own."""
    torch.manual_seed(20180402)
    net = NETS[name]().double()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.PReLU):
                module.weight.uniform_(-0.5, 0.5)
    return net


def oracle(name: str, w: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """The same net from its state_dict, channels last as TensorFlow has it, in plain steps."""
    x = x.permute(0, 3, 2, 1)  # the original sees transposed images: (N, W, H, C)
    for layer, prelu, pool in LAYERS[name]:
        x = affine(w, layer, x)
        x = x.clamp(min=0) + w[f"{prelu}.weight"] * x.clamp(max=0)
        x = x if pool is None else max_pool(x, *pool)
    outputs = [affine(w, head, x) for head in HEADS[name]]
    outputs[-1] = outputs[-1].exp() / outputs[-1].exp().sum(-1, keepdim=True)
    return [y if y.ndim == 2 else y.permute(0, 3, 2, 1) for y in outputs]


def affine(w: dict[str, Tensor], layer: str, x: Tensor) -> Tensor:
    weight, bias = w[f"{layer}.weight"], w[f"{layer}.bias"]
    if weight.ndim == 2:
        return x.reshape(len(x), -1) @ weight.T + bias
    windows = x.unfold(1, weight.shape[3], 1).unfold(2, weight.shape[2], 1)  # N W H C kw kh
    return torch.einsum("nxycij,ocji->nxyo", windows, weight) + bias


def max_pool(x: Tensor, size: int, padding: str) -> Tensor:
    """Stride 2. TensorFlow's SAME puts the odd one of its padding after the data."""
    if padding == "SAME":
        total = [max((-(-n // 2) - 1) * 2 + size - n, 0) for n in x.shape[1:3]]
        (left, right), (top, bottom) = [(t // 2, t - t // 2) for t in total]
        x = F.pad(x, (0, 0, top, bottom, left, right), value=-torch.inf)
    return x.unfold(1, size, 2).unfold(2, size, 2).amax((-2, -1))


@pytest.mark.parametrize("name", NETS)
def test_state_dict_is_the_published_one(name: str, reference_dir: Path) -> None:
    published = torch.load(reference_dir / f"published/{name}.pt", weights_only=True)
    ours = NETS[name]().state_dict()
    describe = [(key, value.shape, value.dtype) for key, value in ours.items()]
    assert describe == [(key, value.shape, value.dtype) for key, value in published.items()]


@pytest.mark.parametrize(("name", "count"), [("pnet", 6632), ("rnet", 100178), ("onet", 389040)])
def test_parameter_count(name: str, count: int) -> None:
    assert sum(p.numel() for p in NETS[name]().parameters()) == count  # of det1, det2, det3.npy


@pytest.mark.parametrize("name", NETS)
def test_published_weights_give_the_original_outputs(name: str, reference_dir: Path) -> None:
    net = NETS[name]()
    net.load_state_dict(torch.load(reference_dir / f"published/{name}.pt", weights_only=True))
    with np.load(reference_dir / "golden/mtcnn_nets.npz") as golden:
        fed = torch.from_numpy(golden[f"{name}/input"])
        expected = [torch.from_numpy(golden[f"{name}/{key}"]) for key in OUTPUTS[name]]
    with torch.inference_mode():
        found = net(fed.permute(0, 3, 2, 1))  # (N, W, H, C) as the original is fed, to NCHW
    for key, a, b in zip(OUTPUTS[name], found, expected, strict=True):
        a = a if a.ndim == 2 else a.permute(0, 3, 2, 1)
        assert a.shape == b.shape, key
        # Float32 summed in two orders: 7.2e-7 at most when measured, on outputs of up to 1.
        assert (a - b).abs().max() <= 3e-6, key


@pytest.mark.parametrize("name", NETS)
def test_forward_is_the_original_step_by_step(name: str) -> None:
    net = seeded(name)
    x = torch.randn(3, 3, *SIZES[name], dtype=torch.float64)
    with torch.inference_mode():
        found, expected = net(x), oracle(name, net.state_dict(), x)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)  # sums in another order, float64


@pytest.mark.parametrize("size", [(12, 12), (12, 13), (13, 12), (15, 40), (41, 26)])
def test_pnet_takes_any_size_from_12(size: tuple[int, int]) -> None:
    net = seeded("pnet")
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    with torch.inference_mode():
        regression, probability = net(x)
        expected = oracle("pnet", net.state_dict(), x)
    grid = tuple(-(-(n - 2) // 2) - 4 for n in size)
    assert regression.shape == (2, 4, *grid)
    assert probability.shape == (2, 2, *grid)
    torch.testing.assert_close([regression, probability], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_shapes_for_each_batch_size(name: str, count: int) -> None:
    outputs = NETS[name]()(torch.zeros(count, 3, *SIZES[name]))
    widths = {"regression": 4, "landmarks": 10, "probability": 2}
    assert [y.shape[:2] for y in outputs] == [(count, widths[key]) for key in OUTPUTS[name]]


@pytest.mark.parametrize("name", NETS)
def test_probabilities_add_up_to_one(name: str) -> None:
    probability = NETS[name]()(torch.randn(4, 3, *SIZES[name]))[-1]
    torch.testing.assert_close(probability.sum(1), torch.ones_like(probability[:, 0]))
    assert probability.min() >= 0


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("rnet", (1, 3, 23, 23)),  # facenet-pytorch answers; the original refuses
        ("rnet", (1, 3, 25, 24)),
        ("rnet", (1, 24, 24, 3)),
        ("rnet", (3, 24, 24)),
        ("onet", (1, 3, 47, 48)),
        ("onet", (1, 1, 48, 48)),
    ],
)
def test_a_wrong_size_is_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"^[RO]Net takes input of shape \(N, 3, ") as caught:
        NETS[name]()(torch.zeros(shape))
    assert str(caught.value).endswith(f"not {list(shape)}")


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_outputs_have_the_dtype_of_the_net(name: str, dtype: torch.dtype) -> None:
    net, x = seeded(name), torch.randn(2, 3, *SIZES[name], dtype=torch.float64)
    with torch.inference_mode():
        expected = net(x)
        found = net.to(dtype)(x.to(dtype))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        torch.testing.assert_close(a.double(), b, rtol=0, atol=0.05)  # bfloat16 has 8 bits


@pytest.mark.parametrize("name", NETS)
def test_training_mode_changes_nothing(name: str) -> None:
    net, x = NETS[name](), torch.randn(2, 3, *SIZES[name])
    with torch.inference_mode():
        assert all(map(torch.equal, net.train()(x), net.eval()(x)))
