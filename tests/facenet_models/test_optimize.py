"""Optimized copies answer as the models do, and leave them alone."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from facenet_common.errors import FacenetError, UsageError  # noqa: E402
from facenet_models import InceptionResnetV1, ONet, PNet, RNet, optimize  # noqa: E402
from facenet_models.networks.inception_resnet_v1 import BasicConv2d  # noqa: E402
from facenet_models.optimize import fold_batch_norms  # noqa: E402

LIMIT = 2e-6  # what the module promises for embeddings


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


@pytest.fixture(params=["torch", "onnxruntime"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "onnxruntime":
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")
    return str(request.param)


def test_embeddings_stay_within_the_promise(built: InceptionResnetV1, backend: Any) -> None:
    fast = optimize.optimize(built, backend=backend)
    for shape in ((1, 3, 75, 75), (3, 3, 80, 96)):
        x = noise(*shape)
        with torch.inference_mode():
            expected, found = built(x), fast(x)
        assert found.dtype == torch.float32
        assert found.shape == expected.shape
        assert (found - expected).norm(dim=1).max() <= LIMIT


def test_classify_can_be_switched(model: InceptionResnetV1, backend: Any) -> None:
    fast = optimize.optimize(model, backend=backend)
    x = noise(2, 3, 75, 75)
    with torch.inference_mode():
        for classify in (False, True):
            model.classify = fast.classify = classify
            torch.testing.assert_close(fast(x), model(x), rtol=1e-5, atol=1e-5)
    assert optimize.optimize(model, backend=backend).classify


def test_classify_without_logits_is_the_models_error(backend: Any) -> None:
    fast = optimize.optimize(InceptionResnetV1(embedding_size=8).eval(), backend=backend)
    fast.classify = True
    with pytest.raises(RuntimeError, match="no logits layer"):
        fast(noise(1, 3, 75, 75))


@pytest.mark.parametrize(("net", "size"), [(PNet, 31), (RNet, 24), (ONet, 48)])
def test_detection_networks(net: type[nn.Module], size: int, backend: Any) -> None:
    torch.manual_seed(3)
    model = net().eval()
    for layer in model.modules():
        if isinstance(layer, nn.PReLU):
            nn.init.uniform_(layer.weight, -0.5, 0.5)
    fast = optimize.optimize(model, backend=backend)
    for count in (0, 1, 5):
        x = noise(count, 3, size, size)
        with torch.inference_mode():
            for found, expected in zip(fast(x), model(x), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_the_model_is_left_alone(model: InceptionResnetV1, backend: Any) -> None:
    before = copy.deepcopy(model)
    fast = optimize.optimize(model, backend=backend)
    fast.classify = True
    assert not model.classify
    assert model.state_dict().keys() == before.state_dict().keys()
    for name, value in before.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert str(model) == str(before)
    x = noise(1, 3, 75, 75)
    with torch.inference_mode():
        assert torch.equal(model(x), before(x))


def test_folding_rounds_once(model: InceptionResnetV1) -> None:
    folded = dict(fold_batch_norms(model).named_modules())
    for name, block in model.named_modules():
        if isinstance(block, BasicConv2d):
            norm = block.bn
            assert norm.running_mean is not None
            assert norm.running_var is not None
            factor = norm.weight.double() / (norm.running_var.double() + 1e-3).sqrt()
            conv = folded[name].conv
            kernel = (block.conv.weight.double() * factor[:, None, None, None]).float()
            assert torch.equal(conv.weight, kernel), name
            bias = norm.bias.double() - norm.running_mean.double() * factor
            assert torch.equal(conv.bias, bias.float()), name


def test_float64_stays_float64(model: InceptionResnetV1) -> None:
    fast = optimize.optimize(model.double())  # auto: not a case for onnxruntime
    x = noise(2, 3, 75, 75).double()
    with torch.inference_mode():
        torch.testing.assert_close(fast(x), model(x), rtol=0, atol=1e-12)


def test_training_mode_changes_nothing(model: InceptionResnetV1, backend: Any) -> None:
    fast = optimize.optimize(model, backend=backend)
    x = noise(2, 3, 75, 75)
    expected = fast(x)
    assert torch.equal(fast.train()(x), expected)
    assert not list(fast.parameters()) or not any(p.requires_grad for p in fast.parameters())


def test_gradients_reach_the_input_in_torch(built: InceptionResnetV1) -> None:
    fast = optimize.optimize(built, backend="torch")
    x, y = (noise(1, 3, 75, 75).requires_grad_() for _ in range(2))
    fast(x)[0, 0].backward()
    built(y)[0, 0].backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-3, atol=1e-6)


def test_a_model_in_training_mode_is_refused(model: InceptionResnetV1) -> None:
    model.repeat_1.train()
    with pytest.raises(UsageError, match=r"training mode.*\n.*model\.eval\(\)"):
        optimize.optimize(model)


def test_what_is_refused(built: InceptionResnetV1) -> None:
    with pytest.raises(UsageError, match="none of the networks"):
        optimize.optimize(nn.Linear(2, 2).eval())
    with pytest.raises(UsageError, match="unknown backend 'tensorrt'"):
        optimize.optimize(built, backend="tensorrt")  # type: ignore[arg-type] # on purpose
    with pytest.raises(UsageError, match=r"(?s)float32 model on the CPU.*float16 on cpu"):
        optimize.optimize(PNet().eval().half(), backend="onnxruntime")


def test_auto_takes_onnxruntime_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimize, "find_spec", lambda _name: None)
    assert isinstance(optimize.optimize(PNet().eval()), PNet)
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    monkeypatch.undo()
    assert isinstance(optimize.optimize(PNet().eval()), optimize.OnnxModule)


def test_without_onnxruntime_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(
        FacenetError, match=r'(?s)needs onnx, which.*pip install "facenet-parity\[onnx'
    ):
        optimize.optimize(PNet().eval(), backend="onnxruntime")


def test_onnx_modules_say_what_they_take() -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    fast = optimize.optimize(RNet().eval(), backend="onnxruntime", threads=1)
    with pytest.raises(TypeError, match=r"float32 on the CPU, not torch\.float64"):
        fast(noise(1, 3, 24, 24).double())
    with pytest.raises(RuntimeError, match=r"failed on input of shape \(1, 3, 23, 24\)"):
        fast(noise(1, 3, 23, 24))
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(fast)
    twin = copy.deepcopy(fast)
    x = noise(2, 3, 24, 24).permute(0, 1, 3, 2)  # not contiguous
    for found, expected in zip(twin(x), fast(x.contiguous()), strict=True):
        assert torch.equal(found, expected)
