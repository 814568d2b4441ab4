"""The files that a recipe names: found, opened, hashed, and held to what it says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from converter.plan import Plan, make_plan
from converter.resolve import Source, resolve
from facenet_common.errors import FacenetError, MappingError, UsageError
from facenet_common.hashing import sha256_file
from facenet_release.checking.structure import ALWAYS
from facenet_release.documents import file_names as names
from facenet_release.documents import manifest
from facenet_release.documents.recipe import PARTS, ModelRecipe, Recipe
from facenet_release.errors import RecipeError, ReleaseError

# Architectures as the converter names them, and the classes that hold them.
CLASSES = {
    "inception_resnet_v1": "InceptionResnetV1",
    "pnet": "PNet",
    "rnet": "RNet",
    "onet": "ONet",
}
_TABLE = "\n        [model.sha256]"


@dataclass(frozen=True)
class Output:
    """One weight file to be made."""

    file: str
    part: str
    format: str


@dataclass(frozen=True)
class Input:
    """One model of a recipe with what it is made of. All paths exist, all hashes were right."""

    model: ModelRecipe
    source: Path
    files: tuple[manifest.Source, ...]
    architecture: str
    dims: Mapping[str, int]
    outputs: tuple[Output, ...]
    published: Path | None
    paths: tuple[Path, ...]  # of `files`, in the same order

    @property
    def main(self) -> Output:
        """The file that is judged: all tensors, for PyTorch."""
        return next(out for out in self.outputs if (out.part, out.format) == ("all", "pt"))

    def require_unchanged(self) -> None:
        """ReleaseError unless all that it is made of is still what was hashed."""
        rows = [(path, file.sha256) for path, file in zip(self.paths, self.files, strict=True)]
        if self.published is not None and self.model.published is not None:
            rows.append((self.published, self.model.published.sha256))
        for path, expected in rows:
            try:
                found = sha256_file(path)
            except OSError as error:
                found = str(error.strerror)
            if found != expected:
                raise ReleaseError(
                    "a file changed while it was worked on",
                    file=path,
                    expected=f"SHA-256 {expected}, as before",
                    found=found,
                    next_step="build again when nothing writes to it",
                )


def find_inputs(recipe: Recipe) -> list[Input]:
    """Every input of the recipe, in its order.

    Raises RecipeError with everything that is wrong: what is not there, what has no or another
    hash, what is no checkpoint that can be converted, what the network does not have.
    """
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter lock
        found = list(pool.map(lambda i: _find(recipe, i), range(len(recipe.models))))
    problems = [problem for _, problems in found for problem in problems]
    inputs = [one for one, _ in found if one is not None]
    problems += _clashes(inputs)
    if problems:
        raise RecipeError(
            "the recipe's inputs are not as it says",
            problems,
            file=recipe.file,
            next_step=f"paths start from {recipe.base}",
        )
    return inputs


def _find(recipe: Recipe, index: int) -> tuple[Input | None, list[str]]:
    model = recipe.models[index]
    try:
        source = _resolve(recipe.base, model)
        catalog = source.open()
        plan = make_plan(catalog, to="torch")
    except FacenetError as error:
        return None, [f"{recipe.where(index, 'source')}: {_short(error)}"]
    if catalog.naming != "tensorflow":
        text = f"{source.path} is {catalog.format}; a release starts from TensorFlow's weights"
        return None, [f"{recipe.where(index, 'source')}: {text}"]
    paths = _distinct([*catalog.files, *([source.graph] if source.graph else [])])
    files = tuple(manifest.Source(p.name, p.stat().st_size, sha256_file(p)) for p in paths)
    published, more = _published(recipe, model)
    problems = [f"{recipe.where(index, 'sha256')}: {p}" for p in _altered(model, files)]
    problems += [f"{recipe.where(index, 'published')}: {p}" for p in more]
    problems += [f"{recipe.where(index, key)}: {p}" for key, p in _misfits(model, plan)]
    one = Input(
        model=model,
        source=source.path,
        files=files,
        architecture=plan.architecture.name,
        dims=dict(plan.dims),
        outputs=tuple(_outputs(model, plan)),
        published=published,
        paths=paths,
    )
    return one, problems


def _resolve(base: Path, model: ModelRecipe) -> Source:
    """The source, from the recipe's folder, else wherever `convert` would look for it."""
    try:
        return resolve(str(base / model.source), model.step)
    except UsageError as error:
        try:
            return resolve(model.source, model.step)
        except UsageError:
            raise error from None  # which names the place where it should be


def _distinct(paths: list[Path]) -> tuple[Path, ...]:
    return tuple(sorted(dict.fromkeys(paths), key=lambda path: path.name))


def _altered(model: ModelRecipe, files: tuple[manifest.Source, ...]) -> Iterator[str]:
    """What the recipe's hashes and the files disagree about; what to write where one lacks."""
    missing = [file for file in files if file.name not in model.sha256]
    if missing:
        rows = "".join(f'\n        "{file.name}" = "{file.sha256}"' for file in missing)
        yield f"no hash of what it starts from; if these are the right files, write:{_TABLE}{rows}"
    for file in files:
        expected = model.sha256.get(file.name, file.sha256)
        if expected != file.sha256:
            yield f"{file.name} is altered: SHA-256 {expected} was expected, is {file.sha256}"
    for name in sorted(model.sha256.keys() - {file.name for file in files}):
        yield f"{name} has a hash, but is not among the source's files"


def _published(recipe: Recipe, model: ModelRecipe) -> tuple[Path | None, list[str]]:
    if model.published is None:
        return None, []
    path = recipe.base / Path(model.published.file).expanduser()
    if not path.is_file():
        return None, [f"no such file: {path}"]
    digest = sha256_file(path)
    if digest != model.published.sha256:
        text = f"{path} is altered: SHA-256 {model.published.sha256} was expected, is {digest}"
        return None, [text]
    return path, []


def _misfits(model: ModelRecipe, plan: Plan) -> Iterator[tuple[str, str]]:
    """What the recipe says of the network, and isn't so."""
    for key, dim in (("embedding_size", "embedding"), ("classes", "classes")):
        expected, found = getattr(model, key), plan.dims.get(dim)
        if expected is not None and expected != (found or 0):
            yield key, f"{key} {expected} was expected, the source has {found}"
    for part in model.parts or ():
        if part not in _parts(plan):
            yield "parts", f"{part!r}: the source has no parts of its own, or no classifier"
    missing = [name for name in ("onnx", "onnxruntime") if find_spec(name) is None]
    if "onnx" in model.formats and missing:
        yield "formats", f"'onnx' needs {' and '.join(missing)}: pip install facenet-parity[onnx]"


def _parts(plan: Plan) -> tuple[str, ...]:
    return PARTS if plan.dims.get("classes") else ("all",)


def _outputs(model: ModelRecipe, plan: Plan) -> Iterator[Output]:
    for part in model.parts or _parts(plan):
        for form in model.formats:
            if form != "onnx" or part == "all":  # one network is enough
                yield Output(names.weights(model.name, part, form), part, form)


def _clashes(inputs: list[Input]) -> list[str]:
    owners = {name.lower(): "the release itself" for name in (*ALWAYS, *manifest.UNNAMED)}
    problems = []
    for one in inputs:
        for name in names.of_model(one.model.name, ((o.part, o.format) for o in one.outputs)):
            other = owners.setdefault(name.lower(), one.model.name)
            if other != one.model.name:
                problems.append(f"{name} would be of {other} and of {one.model.name}")
    return problems


def _short(error: FacenetError) -> str:
    """An error as one finding among many."""
    text = "; ".join(filter(None, (error.problem, error.file, error.found, error.next_step)))
    if isinstance(error, MappingError):
        text += "".join(f"; {finding}" for finding in error.findings[:5])
    return text
