"""A folder of weights as FACENET_WEIGHTS names it, for tests that need every network."""

from __future__ import annotations

from pathlib import Path


def write_weights(folder: Path, reference_dir: Path) -> Path:
    """MTCNN's real weights, and stand-ins for both published InceptionResnetV1; gives `folder`.

    The stand-ins are seeded and untrained. Names, shapes and file names are the published ones'.
    """
    import torch

    from facenet_models import InceptionResnetV1
    from facenet_models.pretrained import Pretrained

    for net in ("pnet", "rnet", "onet"):
        (folder / f"{net}.pt").symlink_to(reference_dir / "published" / f"{net}.pt")
    torch.manual_seed(20180402)
    for entry in (Pretrained.VGGFACE2.value, Pretrained.CASIA_WEBFACE.value):
        torch.save(InceptionResnetV1(num_classes=entry.classes).state_dict(), folder / entry.file)
    return folder
