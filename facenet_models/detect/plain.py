"""Decide whether a network is as this package builds it, so that its fast path gives its answers.

The fast paths compute with a network's parameters and never call the network. A network with a
hook, a patched ``forward``, pruned or quantised layers, a wrapper, or one that was scripted, traced
or compiled is called instead.
"""

from __future__ import annotations

from collections.abc import Set
from functools import cache
from typing import Any

from torch import nn
from torch.nn.modules import module as torch_module

from facenet_models.networks.onet import ONet
from facenet_models.networks.pnet import PNet
from facenet_models.networks.rnet import RNet

# As defined, before any patch.
FORWARDS = {kind: kind.forward for kind in (PNet, RNet, ONet)}


def is_plain(net: nn.Module) -> bool:
    """Return whether `net` is a P-Net, R-Net or O-Net that nothing was done to.

    Examples:
        >>> net = PNet()
        >>> is_plain(net)
        True
        >>> handle = net.conv1.register_forward_hook(print)
        >>> is_plain(net)
        False
    """
    kind = type(net)
    return (
        kind in FORWARDS
        and kind.forward is FORWARDS[kind]
        and (_kinds(net), net.state_dict().keys()) == _original(kind)
        and not any(_is_changed(part) for part in net.modules())
        and not torch_module._global_forward_hooks
        and not torch_module._global_forward_pre_hooks
    )


def _kinds(net: nn.Module) -> tuple[tuple[str, type], ...]:
    return tuple((name, type(part)) for name, part in net.named_modules())


@cache
def _original(kind: Any) -> tuple[tuple[tuple[str, type], ...], Set[str]]:
    """Return the modules and the names of the parameters of a new network of this class."""
    net = kind.from_dims({})  # on the meta device, so that no random numbers are drawn
    return _kinds(net), net.state_dict().keys()


def _is_changed(part: nn.Module) -> bool:
    """Return whether calling `part` does anything but its class's forward."""
    return bool(
        part._forward_hooks
        or part._forward_pre_hooks
        or part._compiled_call_impl is not None
        or {"forward", "__call__"} & part.__dict__.keys()
    )
