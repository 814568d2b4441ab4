"""InceptionResnetV1 as a module: inputs, outputs, parameters, training."""

import inspect

import pytest

pytest.importorskip("torch", reason="the networks need torch")

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facenet_models import InceptionResnetV1

CLASSES = 11  # of the models that conftest builds


def batch(count: int = 2, height: int = 83, width: int = 95) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def run(model: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        out: Tensor = model(x)
    return out


# --- Inputs and outputs ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(75, 75), (75, 160), (96, 112), (131, 77), (160, 160)])
def test_any_size_from_75_gives_unit_embeddings(
    built: InceptionResnetV1, size: tuple[int, int]
) -> None:
    embeddings = run(built, batch(2, *size))
    assert embeddings.shape == (2, 512)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


def test_a_smaller_image_is_refused(built: InceptionResnetV1) -> None:
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        run(built, batch(1, 74, 160))


def test_a_row_does_not_depend_on_its_batch(built: InceptionResnetV1) -> None:
    x = batch(3)
    together = run(built, x)
    for i in range(3):
        torch.testing.assert_close(run(built, x[i : i + 1]), together[i : i + 1], rtol=0, atol=1e-6)


def test_an_empty_batch_gives_no_rows(built: InceptionResnetV1) -> None:
    assert run(built, batch(0)).shape == (0, 512)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_outputs_have_the_dtype_of_the_model(model: InceptionResnetV1, dtype: torch.dtype) -> None:
    x = batch()
    expected = run(model, x)
    found = run(model.to(dtype), x.to(dtype))
    assert found.dtype == dtype
    assert F.cosine_similarity(found.float(), expected).min() > 0.999


def test_channels_last_gives_the_same(model: InceptionResnetV1) -> None:
    x = batch()
    expected = run(model, x)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
    found = run(model, x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("length", [0.0, 1e-12, 3e-6, 1e-5, 1e-3, 1e6])
def test_normalisation_is_that_of_tensorflow(model: InceptionResnetV1, length: float) -> None:
    prelogits = torch.randn(2, 512, generator=torch.Generator().manual_seed(2))
    prelogits *= length / prelogits.norm(dim=1, keepdim=True)
    model.last_bn.register_forward_hook(lambda *_: prelogits)
    # tf.nn.l2_normalize(x, 1, 1e-10); float64, or the squares of the shortest rows vanish
    square = prelogits.double().square().sum(1, keepdim=True)
    expected = prelogits.double() * square.clamp(min=1e-10).rsqrt()
    torch.testing.assert_close(run(model, batch()).double(), expected, rtol=1e-5, atol=1e-12)


def test_normalisation_is_that_of_facenet_pytorch(model: InceptionResnetV1) -> None:
    seen: list[Tensor] = []
    model.last_bn.register_forward_hook(lambda _m, _i, out: seen.append(out))
    found = run(model, batch())
    assert torch.equal(found, F.normalize(seen[0], p=2, dim=1))


# --- classify -------------------------------------------------------------------------------------


def test_classify_can_be_switched_on_and_off(model: InceptionResnetV1) -> None:
    x = batch()
    embeddings = run(model, x)
    model.classify = True
    logits = run(model, x)
    assert logits.shape == (2, CLASSES)
    model.classify = False
    assert torch.equal(run(model, x), embeddings)
    born_classifying = InceptionResnetV1(classify=True, num_classes=CLASSES).eval()
    born_classifying.load_state_dict(model.state_dict())
    assert torch.equal(run(born_classifying, x), logits)


def test_classify_needs_num_classes() -> None:
    with pytest.raises(ValueError, match=r"needs the number of classes: pass num_classes"):
        InceptionResnetV1(classify=True)


def test_classify_without_a_logits_layer_says_what_to_do() -> None:
    model = InceptionResnetV1().eval()
    assert model.last_linear.out_features == 512
    assert model.logits is None
    assert not [key for key in model.state_dict() if key.startswith("logits")]
    model.classify = True
    with pytest.raises(RuntimeError, match="no logits layer: build it with num_classes, or set"):
        run(model, batch(1))
    model.logits = nn.Linear(512, 3)  # what fine-tuning does
    assert run(model, batch(1)).shape == (1, 3)


# --- Parameters -----------------------------------------------------------------------------------


def test_defaults_are_those_of_facenet_pytorch() -> None:
    parameters = inspect.signature(InceptionResnetV1).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        "pretrained": None,
        "classify": False,
        "num_classes": None,
        "dropout_prob": 0.6,
        "device": None,
        "embedding_size": None,
    }
    # In facenet-pytorch's order, so that positional calls mean the same; ours alone has the last.
    kinds = [p.kind for p in parameters.values()]
    assert kinds == 5 * [inspect.Parameter.POSITIONAL_OR_KEYWORD] + [inspect.Parameter.KEYWORD_ONLY]
    assert list(parameters)[:5] == [
        "pretrained",
        "classify",
        "num_classes",
        "dropout_prob",
        "device",
    ]
    assert InceptionResnetV1(device="meta").dropout.p == 0.6


def test_the_docstring_explains_each_parameter() -> None:
    lines = [line.strip() for line in (inspect.getdoc(InceptionResnetV1) or "").splitlines()]
    for name in inspect.signature(InceptionResnetV1).parameters:
        assert any(line.startswith(f"{name}: ") for line in lines), name


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_classes": 0}, "num_classes must be None or at least 1, not 0"),
        ({"num_classes": -1, "classify": True}, "num_classes must be None or at least 1, not -1"),
        ({"embedding_size": 0}, "embedding_size must be at least 1, not 0"),
        ({"dropout_prob": 1.5}, "dropout probability has to be between 0 and 1, but got 1.5"),
    ],
)
def test_impossible_parameters_are_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InceptionResnetV1(**wrong)  # type: ignore[arg-type]


def test_embedding_size_sets_the_last_layers() -> None:
    model = InceptionResnetV1(embedding_size=128, num_classes=CLASSES, device="meta")
    assert model.last_linear.weight.shape == (128, 1792)
    assert model.last_bn.weight.shape == (128,)
    assert model.logits is not None
    assert model.logits.weight.shape == (CLASSES, 128)


@pytest.mark.parametrize("device", ["meta", torch.device("meta"), "cpu"])
def test_device_moves_the_model_and_is_kept(device: str | torch.device) -> None:
    model = InceptionResnetV1(device=device, num_classes=2)
    assert model.device == device
    everything = [*model.parameters(), *model.buffers()]
    assert {value.device for value in everything} == {torch.device(device)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_device_cuda_gives_the_same_embeddings(built: InceptionResnetV1) -> None:
    model = InceptionResnetV1(device="cuda", num_classes=CLASSES).eval()
    model.load_state_dict(built.state_dict())
    found = run(model, batch().to(model.device)).cpu()
    assert F.cosine_similarity(found, run(built, batch())).min() > 0.9999  # TF32 may be on


def test_without_device_the_model_is_on_the_cpu() -> None:
    model = InceptionResnetV1()
    assert model.device == torch.device("cpu")
    assert {value.device.type for value in model.parameters()} == {"cpu"}


# --- Training -------------------------------------------------------------------------------------


def test_dropout_acts_in_training_mode_only(model: InceptionResnetV1) -> None:
    model.dropout.p = 0.9
    x = batch()
    assert torch.equal(run(model, x), run(model, x))
    model.dropout.train()
    assert not torch.equal(run(model, x), run(model, x))


def test_dropout_prob_is_the_share_dropped() -> None:
    dropout = InceptionResnetV1(dropout_prob=0.25).dropout
    torch.manual_seed(0)
    assert (dropout(torch.ones(100_000)) == 0).float().mean().item() == pytest.approx(
        0.25, abs=0.01
    )


def test_new_models_train_and_move_their_statistics() -> None:
    model = InceptionResnetV1()
    assert model.training
    seen: list[Tensor] = []
    model.conv2d_1a.conv.register_forward_hook(lambda _m, _i, out: seen.append(out.detach()))
    model(batch()).sum().backward()
    moved = 0.1 * seen[0].mean((0, 2, 3))  # from 0
    torch.testing.assert_close(model.conv2d_1a.bn.running_mean, moved)
    assert all(p.grad is not None for p in model.parameters())


def test_a_training_batch_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        InceptionResnetV1()(batch(1))


def test_batch_normalisations_share_epsilon_and_momentum(built: InceptionResnetV1) -> None:
    norms = [m for m in built.modules() if isinstance(m, nn.BatchNorm2d | nn.BatchNorm1d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(0.001, 0.1)}


def test_hooks_see_values_that_later_layers_leave_alone(built: InceptionResnetV1) -> None:
    pairs: list[tuple[Tensor, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda _m, _i, out: pairs.append((out, out.clone())))
        for module in built.modules()
    ]
    run(built, batch(1))
    for handle in handles:
        handle.remove()
    assert all(torch.equal(held, kept) for held, kept in pairs)
