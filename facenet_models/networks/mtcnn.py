"""Shared parts of P-Net, R-Net and O-Net, the three networks of the MTCNN face detector.

Zhang et al., "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional
Networks", arXiv:1604.02878. Layer sizes are those of davidsandberg/facenet's
``src/align/detect_face.py`` at 096ed77 ("the original" below), submodule names those of
facenet-pytorch, so its published state_dicts load as they are.

All three take ``(N, 3, H, W)`` floating point RGB, ``(pixel - 127.5) / 128``. The trained weights
come from a program that stores images column by column; the original transposes every image
before feeding it and the outputs afterwards. Here the kernels are transposed instead, once, when
they are converted, and images are fed upright. One trace of it stays: `flatten_columns`.

Their outputs have these names and meanings:

* regression, 4 numbers: what to add to the edges left, top, right, bottom of the box, in units of
  the box's width and height;
* probability, 2 numbers that add up to 1: no face, face;
* landmarks (O-Net only), 10 numbers: x of left eye, right eye, nose, left and right mouth corner
  in units of the box's width from its left edge, then the five y likewise.

facenet-pytorch's ``pretrained`` parameter does not exist here: `facenet_models.MTCNN` loads the
weights. No layer acts differently in training mode, so ``eval()`` changes nothing.
"""

from torch import Tensor


def flatten_columns(x: Tensor) -> Tensor:
    """Return ``(N, C, H, W)`` as ``(N, W * H * C)``: the order that the dense weights expect."""
    return x.permute(0, 3, 2, 1).flatten(1)


def require_size(net: str, x: Tensor, size: int) -> None:
    """Raise ValueError for another size; the layers round, so that a wrong one may fit them."""
    # In terms that TorchScript compiles.
    if x.dim() != 4 or x.size(1) != 3 or x.size(2) != size or x.size(3) != size:
        raise ValueError(f"{net} takes input of shape (N, 3, {size}, {size}), not {list(x.shape)}")
