"""Run code that imports facenet_pytorch with this package instead, without editing the code.

    python -m facenet_models.compat SCRIPT [ARGUMENT ...]
    python -m facenet_models.compat -m MODULE [ARGUMENT ...]

Or call `install_alias` before the first import of facenet_pytorch. `ALIASES` lists the modules of
facenet-pytorch 2.6.0 and their contents that exist here. They are loaded on first use, so the alias
itself does not need torch.
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

# The names in each module, and the modules that define them here. Parents precede children.
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
    """A module whose contents come from other modules, on first use (PEP 562)."""

    def __init__(self, name: str) -> None:
        super().__init__(name, f"Replacement of {name}, see facenet_models.compat.")
        is_package = any(other.startswith(f"{name}.") for other in ALIASES)
        self.__spec__ = ModuleSpec(name, loader=None, is_package=is_package)
        if is_package:
            self.__path__: list[str] = []  # makes it a package without files
        self.__all__ = [*ALIASES[name], *(["training"] if name == NAME else [])]

    def __getattr__(self, name: str) -> object:
        if name not in ALIASES[self.__name__]:
            available = ", ".join(self.__all__) or "only modules"
            raise AttributeError(
                f"{self.__name__}.{name} has no counterpart in facenet_models, which replaces it "
                f"here. Available: {available}"
            )
        value = getattr(import_module(ALIASES[self.__name__][name]), name)
        if name == "prewhiten":  # facenet-pytorch divides by the sample deviation
            value = partial(value, unbiased=True)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__all__})


def install_alias() -> None:
    """Register the modules of `ALIASES` under the names of facenet-pytorch's modules.

    ``prewhiten`` uses the sample deviation, as facenet-pytorch does. Further calls do nothing.

    Raises:
        UsageError: facenet-pytorch itself is installed or already imported. Otherwise the order of
            imports would decide which of the two packages runs.

    Examples:
        >>> install_alias()  # doctest: +SKIP
        >>> from facenet_pytorch import MTCNN  # doctest: +SKIP
    """
    imported = sys.modules.get(NAME)
    if isinstance(imported, _Alias):
        return
    if imported is not None:
        raise _name_conflict("is imported already", getattr(imported, "__file__", None))
    spec = find_spec(NAME)
    if spec is not None:
        folders = list(spec.submodule_search_locations or ())  # of a package without __init__.py
        raise _name_conflict("is installed", spec.origin or ", ".join(folders))
    modules = {name: _Alias(name) for name in ALIASES}
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(modules[parent], child, module)
    setattr(modules[NAME], "training", modules[f"{NAME}.models.utils.training"])  # noqa: B010 # a ModuleType declares no such attribute
    sys.modules.update(modules)


def _name_conflict(state: str, where: str | None) -> UsageError:
    return UsageError(
        f"{NAME} can't be an alias of facenet_models: the package of that name {state}",
        found=where,
        next_step="pip uninstall facenet-pytorch, or remove that folder from Python's path; or "
        "import facenet_models in the code instead",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Install the alias, and run a script or module as Python does."""
    parser = argparse.ArgumentParser(
        prog="python -m facenet_models.compat",
        description=f"Run Python code in which {NAME} means facenet_models.",
    )
    parser.add_argument("-m", dest="is_module", action="store_true", help="TARGET is a module.")
    parser.add_argument("target", metavar="TARGET", help="A script, or with -m a module.")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="Passed on.")
    options = parser.parse_args(arguments)
    if not options.is_module and not Path(options.target).is_file():
        parser.error(f"no such script: {options.target}")
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
    # Run main of facenet_models.compat, not of __main__: a script that calls install_alias itself
    # must see the same class _Alias.
    from facenet_models import compat

    compat.main()
