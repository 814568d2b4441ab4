"""Have ``import facenet_pytorch`` mean this package, for code that can't be edited.

    python -m facenet_models.compat SCRIPT [ARGUMENT ...]
    python -m facenet_models.compat -m MODULE [ARGUMENT ...]

or `install_alias` before the first such import. Nothing does it unasked. The modules that
facenet-pytorch 2.6.0 has are there under their names, as far as their contents have counterparts:
`ALIASES`. They are filled on first use, so that the alias itself needs no torch.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from facenet_common.errors import UsageError
from facenet_models.networks.registry import NETWORKS

NAME = "facenet_pytorch"

_CROPS = "facenet_models.detect.crops"
_NETWORKS = {
    "MTCNN": "facenet_models.detect.mtcnn",
    **{name: NETWORKS[name] for name in ("PNet", "RNet", "ONet")},
}
_SCALING = {"prewhiten": _CROPS, "fixed_image_standardization": _CROPS}
_INCEPTION = {"InceptionResnetV1": NETWORKS["InceptionResnetV1"]}
_EXTRACT = {"extract_face": _CROPS}
_TRAINING = ("Logger", "BatchTimer", "accuracy", "pass_epoch", "collate_pil")

# What each module offers, and where that is here. Parents stand before their children.
ALIASES: dict[str, dict[str, str]] = {
    NAME: {**_INCEPTION, **_NETWORKS, **_SCALING, **_EXTRACT},
    f"{NAME}.models": {},
    f"{NAME}.models.inception_resnet_v1": _INCEPTION,
    f"{NAME}.models.mtcnn": {**_NETWORKS, **_SCALING, **_EXTRACT},
    f"{NAME}.models.utils": {},
    f"{NAME}.models.utils.detect_face": _EXTRACT,
    f"{NAME}.models.utils.training": dict.fromkeys(_TRAINING, "facenet_models.training"),
}


class _Alias(ModuleType):
    """A module whose contents are those of others, fetched on first use (PEP 562)."""

    def __init__(self, name: str) -> None:
        super().__init__(name, f"Stands in for {name}: see facenet_models.compat.")
        is_package = any(other.startswith(f"{name}.") for other in ALIASES)
        self.__spec__ = ModuleSpec(name, loader=None, is_package=is_package)
        if is_package:
            self.__path__: list[str] = []  # a package, in which no file is looked for
        self.__all__ = [*ALIASES[name], *(["training"] if name == NAME else [])]

    def __getattr__(self, name: str) -> object:
        if name not in ALIASES[self.__name__]:
            offered = ", ".join(self.__all__) or "only modules"
            raise AttributeError(
                f"{self.__name__}.{name} has no counterpart in facenet_models, which stands in for "
                f"it here. There is: {offered}"
            )
        value = getattr(import_module(ALIASES[self.__name__][name]), name)
        if name == "prewhiten":  # with the deviation that facenet-pytorch's has
            value = partial(value, unbiased=True)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__all__})


def install_alias() -> None:
    """Register the modules of `ALIASES`, so that importing them gives this package's contents.

    ``prewhiten`` is the one with the sample deviation, as there. Called again, it does nothing.

    Raises:
        UsageError: facenet-pytorch itself is installed or already imported. Which of the two
            answers must not depend on what is imported first.
    """
    there = sys.modules.get(NAME)
    if isinstance(there, _Alias):
        return
    if there is not None:
        raise _taken("is imported already", getattr(there, "__file__", None))
    spec = find_spec(NAME)
    if spec is not None:
        folders = list(spec.submodule_search_locations or ())  # of a folder without __init__.py
        raise _taken("is installed", spec.origin or ", ".join(folders))
    modules = {name: _Alias(name) for name in ALIASES}
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    setattr(modules[NAME], "training", modules[f"{NAME}.models.utils.training"])  # noqa: B010 # a ModuleType declares no such attribute
    sys.modules.update(modules)


def _taken(how: str, where: str | None) -> UsageError:
    return UsageError(
        f"{NAME} can't stand for facenet_models: the package of that name {how}",
        found=where,
        next_step="pip uninstall facenet-pytorch, or remove that folder from Python's path; or "
        "import facenet_models in the code instead",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a script or module, as Python itself would, with the alias in place."""
    parser = argparse.ArgumentParser(
        prog="python -m facenet_models.compat",
        description=f"Run Python code in which {NAME} means facenet_models.",
    )
    parser.add_argument("-m", dest="is_module", action="store_true", help="TARGET is a module.")
    parser.add_argument("target", metavar="TARGET", help="A script, or with -m a module.")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="Passed on.")
    options = parser.parse_args(arguments)
    if not options.is_module and not Path(options.target).is_file():
        parser.error(f"there is no script {options.target}")
    sys.argv = [options.target, *options.arguments]
    if not options.is_module:
        sys.path[0] = str(Path(options.target).resolve().parent)
    try:
        install_alias()
    except UsageError as error:
        parser.exit(error.exit_code, f"Error: {error}\n")
    if options.is_module:
        runpy.run_module(options.target, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(options.target, run_name="__main__")


if __name__ == "__main__":
    # Under its own name, not __main__, so that a script's own install_alias meets the same class.
    from facenet_models import compat

    compat.main()
