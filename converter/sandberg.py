"""David Sandberg's published models: their names, what was fed to them, and older variable names.

Sources: README.md of davidsandberg/facenet at d280936 (March 2017), 1b0ded5 (May 2017) and 096ed77
(April 2018); the input is that of the training script of the day.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from converter.catalog import Catalog

FIXED = "(pixel - 127.5) / 128"
# tf.image.per_image_standardization; `prewhiten` of src/facenet.py computes the same.
PER_IMAGE = (
    "each image standardised by itself, (pixel - mean) / max(std, 1 / sqrt(number of values)), "
    "with mean and std over its pixels and channels"
)


@dataclass(frozen=True)
class Model:
    """A model: its name, the size of its embeddings, training set and input."""

    name: str
    embedding: int
    training_set: str
    input: str


MODELS = {
    model.name: model
    for model in (
        Model("20180402-114759", 512, "VGGFace2", FIXED),
        Model("20180408-102900", 512, "CASIA-WebFace", FIXED),
        Model("20170512-110547", 128, "MS-Celeb-1M", PER_IMAGE),
        Model("20170511-185253", 128, "CASIA-WebFace", PER_IMAGE),
        Model("20170216-091149", 128, "MS-Celeb-1M", PER_IMAGE),
        Model("20170214-092102", 128, "CASIA-WebFace", PER_IMAGE),
    )
}

# Until May 2017 (cb5c750), the training script added the last layer outside the network's scope.
RENAMED: Mapping[str, str] = {
    f"Bottleneck/{end}": f"InceptionResnetV1/Bottleneck/{end}"
    for end in (
        "weights",
        "BatchNorm/beta",
        "BatchNorm/moving_mean",
        "BatchNorm/moving_variance",
    )
}


def described(catalog: Catalog) -> Catalog:
    """Return the catalog with today's names of its tensors, and a note about a published model.

    Nothing is changed if a tensor has today's name already. A model is known by the name of a file
    or of its folder: nothing is said about the values.

    Examples:
        >>> from converter.demo import variables
        >>> refs = {ref.name: ref for ref in variables(embedding=4, classes=0)}
        >>> described(Catalog(refs, format="demo", naming="tensorflow", files=())).notes
        ()
    """
    if catalog.naming != "tensorflow":
        return catalog
    names = {} if any(new in catalog for new in RENAMED.values()) else RENAMED
    found = [name for name in names if name in catalog]
    notes = [_note(model) for model in MODELS.values() if _is_named(catalog, model.name)]
    if found:
        notes.append(
            f"{len(found)} tensors Bottleneck/… lie outside the network's scope, as until May "
            "2017; they are taken for InceptionResnetV1/Bottleneck/…"
        )
    if not notes:
        return catalog
    tensors = {names.get(name, name): ref for name, ref in catalog.items()}
    return Catalog(
        {name: replace(ref, name=name) for name, ref in tensors.items()},
        format=catalog.format,
        naming=catalog.naming,
        files=catalog.files,
        notes=(*catalog.notes, *notes),
        release=catalog.release,
    )


def _is_named(catalog: Catalog, name: str) -> bool:
    return any(name in part for path in catalog.files for part in path.parts[-3:])


def _note(model: Model) -> str:
    return (
        f"the model of the name {model.name} ({model.training_set}, {model.embedding} numbers) was "
        f"trained on this input: {model.input}"
    )
