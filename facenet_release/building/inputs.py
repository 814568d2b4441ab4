"""Find, open and hash the files that a recipe names, and compare them with the recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from converter.plan import Plan, make_plan
from converter.resolve import Source, resolve
from converter.sources import archive
from facenet_common.errors import FacenetError, MappingError, UsageError
from facenet_common.hashing import sha256_file
from facenet_common.optional import install, missing
from facenet_release.documents import manifest
from facenet_release.documents.recipe import PARTS, ModelRecipe, Recipe
from facenet_release.errors import RecipeError, ReleaseError

_TABLE = "\n        [model.sha256]"


@dataclass(frozen=True)
class Output:
    """A weight file to make."""

    file: str
    part: str
    format: str


@dataclass(frozen=True)
class ModelInput:
    """A model of a recipe with its sources, which exist and have the recipe's hashes.

    `paths` are those of `files`, in the same order; `source` is the path that the converter opens.
    """

    model: ModelRecipe
    source: Path
    files: tuple[manifest.Source, ...]
    architecture: str
    dims: Mapping[str, int]
    outputs: tuple[Output, ...]
    published: Path | None
    paths: tuple[Path, ...]

    @property
    def main(self) -> Output:
        """The file that is judged: all parts, for PyTorch."""
        return next(out for out in self.outputs if (out.part, out.format) == ("all", "pt"))

    def require_unchanged(self) -> None:
        """Check that the sources and the published weights still have their hashes.

        Raises:
            ReleaseError: One of them has changed.
        """
        rows = [(path, file.sha256) for path, file in zip(self.paths, self.files, strict=True)]
        if self.published is not None and self.model.published is not None:
            rows.append((self.published, self.model.published.sha256))
        for path, expected in rows:
            try:
                found = archive.sha256(path)
            except OSError as error:
                found = str(error.strerror)
            if found != expected:
                raise ReleaseError(
                    "a file changed during the build",
                    file=path,
                    expected=f"SHA-256 {expected}, as before",
                    found=found,
                    next_step="build again when nothing writes to it",
                )


def find_inputs(recipe: Recipe) -> list[ModelInput]:
    """Return the inputs of all models of a recipe, in its order.

    Raises:
        RecipeError: A source is missing, has another hash or none in the recipe, can't be
            converted, or lacks a size or a part that the recipe requires. It lists all findings.

    Examples:
        >>> find_inputs(read(Path("release.toml")))[2].architecture  # doctest: +SKIP
        'pnet'
    """
    with ThreadPoolExecutor() as pool:  # hashing releases the interpreter lock
        found = list(pool.map(lambda i: _find(recipe, i), range(len(recipe.models))))
    problems = [problem for _, problems in found for problem in problems]
    inputs = [model_input for model_input, _ in found if model_input is not None]
    problems += _name_clashes(inputs)
    if problems:
        raise RecipeError(
            "the inputs do not match the recipe",
            problems,
            file=recipe.file,
            next_step=f"check the files; relative paths start from {recipe.base}",
        )
    return inputs


def _find(recipe: Recipe, index: int) -> tuple[ModelInput | None, list[str]]:
    model = recipe.models[index]

    def finding(key: str, text: str) -> str:
        return f"{recipe.where(index, key)}: {text}"

    try:
        source = _resolve(recipe.base, model)
        catalog = source.open()
        plan = make_plan(catalog, to="torch")
    except FacenetError as error:
        return None, [finding("source", _on_one_line(error))]
    if catalog.naming != "tensorflow":
        text = f"expected TensorFlow weights, found {catalog.format}: {source.path}"
        return None, [finding("source", text)]
    files_read = dict.fromkeys([*catalog.files, *([source.graph] if source.graph else [])])
    paths = tuple(sorted(files_read, key=lambda path: path.name))
    files = tuple(manifest.Source(p.name, archive.size(p), archive.sha256(p)) for p in paths)
    published, published_problems = _find_published(recipe, model)
    problems = [finding("sha256", text) for text in _check_hashes(model, files)]
    problems += [finding("published", text) for text in published_problems]
    problems += [finding(key, text) for key, text in _check_network(model, plan)]
    model_input = ModelInput(
        model=model,
        source=source.path,
        files=files,
        architecture=plan.architecture.name,
        dims=dict(plan.dims),
        outputs=tuple(_outputs(model, plan)),
        published=published,
        paths=paths,
    )
    return model_input, problems


def _resolve(base: Path, model: ModelRecipe) -> Source:
    """Return the source, below the recipe's folder or else where `convert` looks for it."""
    try:
        return resolve(str(base / model.source), model.step)
    except UsageError as error:
        try:
            return resolve(model.source, model.step)
        except UsageError:
            raise error from None  # which names the expected place


def _check_hashes(model: ModelRecipe, files: tuple[manifest.Source, ...]) -> Iterator[str]:
    """Yield how the hashes of the files differ from the recipe; a missing one as TOML to paste."""
    absent = [file for file in files if file.name not in model.sha256]
    if absent:
        rows = "".join(f'\n        "{file.name}" = "{file.sha256}"' for file in absent)
        yield f"hashes are missing; if these are the right files, add:{_TABLE}{rows}"
    for file in files:
        expected = model.sha256.get(file.name, file.sha256)
        if expected != file.sha256:
            yield f"{file.name} is altered: expected SHA-256 {expected}, found {file.sha256}"
    for name in sorted(model.sha256.keys() - {file.name for file in files}):
        yield f"{name} has a hash, but is not among the source's files"


def _find_published(recipe: Recipe, model: ModelRecipe) -> tuple[Path | None, list[str]]:
    if model.published is None:
        return None, []
    path = recipe.base / Path(model.published.file).expanduser()
    if not path.is_file():
        return None, [f"the file does not exist: {path}"]
    expected, found = model.published.sha256, sha256_file(path)
    if found != expected:
        return None, [f"{path} is altered: expected SHA-256 {expected}, found {found}"]
    return path, []


def _check_network(model: ModelRecipe, plan: Plan) -> Iterator[tuple[str, str]]:
    """Yield the keys of the recipe that the source, or this environment, does not satisfy."""
    for key, dim in (("embedding_size", "embedding"), ("classes", "classes")):
        expected, found = getattr(model, key), plan.dims.get(dim)
        if expected is not None and expected != (found or 0):
            yield key, f"expected {key} {expected}, found {found} in the source"
    for part in model.parts or ():
        if part not in _parts(plan):
            yield "parts", f"the source has no part {part!r}: it has no classifier"
    packages = missing(["onnx", "onnxruntime"]) if "onnx" in model.formats else []
    if packages:
        yield "formats", f"'onnx' needs {' and '.join(packages)}: {install(packages[0])}"


def _parts(plan: Plan) -> tuple[str, ...]:
    return PARTS if plan.dims.get("classes") else ("all",)


def _outputs(model: ModelRecipe, plan: Plan) -> Iterator[Output]:
    for part in model.parts or _parts(plan):
        for format_ in model.formats:
            if format_ != "onnx" or part == "all":  # ONNX has the whole network only
                yield Output(manifest.weights_file(model.name, part, format_), part, format_)


def _name_clashes(inputs: list[ModelInput]) -> list[str]:
    """Return the file names that two models, or a model and the release, would share."""
    reserved = (*manifest.COMMON_FILES, *manifest.UNNAMED)
    owners = {name.lower(): "the release" for name in reserved}
    problems = []
    for model_input in inputs:
        model = model_input.model.name
        pairs = ((output.part, output.format) for output in model_input.outputs)
        for name in manifest.model_files(model, pairs):
            owner = owners.setdefault(name.lower(), model)
            if owner != model:
                problems.append(f"{name} would belong to both {owner} and {model}")
    return problems


def _on_one_line(error: FacenetError) -> str:
    text = "; ".join(filter(None, (error.problem, error.file, error.found, error.next_step)))
    if isinstance(error, MappingError):
        text += "".join(f"; {finding}" for finding in error.findings[:5])
    return text
