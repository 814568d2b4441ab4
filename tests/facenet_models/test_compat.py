"""``facenet_pytorch`` as another name of facenet_models: only on request, and never in disguise."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from facenet_common.errors import UsageError
from facenet_models import compat
from facenet_models.compat import ALIASES, NAME, install_alias


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Tests start and end without the alias."""
    if importlib.util.find_spec(NAME) is not None:
        pytest.skip("facenet-pytorch is installed here")
    yield
    forget()


def python(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, check=False, cwd=folder)


def test_nothing_is_registered_unasked() -> None:
    importlib.reload(importlib.import_module("facenet_models"))
    assert NAME not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(NAME)


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in ALIASES.items() for name in names]
)
def test_each_name_is_ours(module: str, name: str) -> None:
    pytest.importorskip("torch")
    install_alias()
    found = getattr(importlib.import_module(module), name)
    ours = getattr(importlib.import_module(ALIASES[module][name]), name)
    assert found is ours or (name == "prewhiten" and found.func is ours)


def test_the_imports_that_facenet_pytorchs_readme_and_examples_use() -> None:
    pytest.importorskip("torch")
    install_alias()
    names = (
        "MTCNN InceptionResnetV1 PNet RNet ONet prewhiten fixed_image_standardization "
        "extract_face training"
    )
    scope: dict[str, object] = {}
    exec(f"from facenet_pytorch import {', '.join(names.split())}", scope)
    exec("import facenet_pytorch.models.utils.training as own", scope)
    exec("from facenet_pytorch.models.utils import detect_face", scope)
    exec("from facenet_pytorch.models import mtcnn, inception_resnet_v1", scope)
    assert scope["own"] is scope["training"]
    assert isinstance(scope["detect_face"], ModuleType)
    everything: dict[str, object] = {}
    exec("from facenet_pytorch import *", everything)
    assert set(names.split()) <= set(everything)


def test_modules_are_attributes_of_their_parents() -> None:
    pytest.importorskip("torch")
    install_alias()
    package = importlib.import_module(NAME)
    assert package.models.mtcnn.MTCNN is package.MTCNN
    assert package.models.utils.detect_face.extract_face is package.extract_face


def test_prewhiten_is_facenet_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    install_alias()
    from facenet_pytorch import prewhiten  # type: ignore[import-not-found] # made above

    values = torch.arange(6.0)
    assert torch.equal(prewhiten(values), (values - 2.5) / values.std(correction=1))


def test_what_has_no_counterpart_is_named() -> None:
    install_alias()
    module = importlib.import_module(f"{NAME}.models.utils.detect_face")
    with pytest.raises(AttributeError, match=r"batched_nms_numpy has no counterpart .*extract_fac"):
        _ = module.batched_nms_numpy
    with pytest.raises(AttributeError, match="Available: only modules"):
        _ = importlib.import_module(f"{NAME}.models").Block35
    with pytest.raises(ImportError, match="imresample"):
        exec("from facenet_pytorch.models.utils.detect_face import imresample", {})
    for missing in ("models.utils.download", "other"):
        with pytest.raises(ModuleNotFoundError, match=missing):
            importlib.import_module(f"{NAME}.{missing}")


def test_twice_is_once() -> None:
    install_alias()
    first = sys.modules[NAME]
    install_alias()
    assert sys.modules[NAME] is first
    spec = importlib.util.find_spec(NAME)  # other packages ask like this whether it is there
    assert spec is not None
    assert spec.name == NAME


def test_it_needs_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from facenet_models.compat import install_alias; install_alias()\n"
        "import facenet_pytorch, facenet_pytorch.models.mtcnn\n"
        "dir(facenet_pytorch); print({'torch', 'numpy'} & set(sys.modules))"
    )
    done = python("-c", code, folder=tmp_path)
    assert done.stdout == "set()\n", done.stderr


# --- the real one ---------------------------------------------------------------------------------


def test_the_real_package_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "__init__.py").write_text("real = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="the package of that name is installed") as caught:
        install_alias()
    assert str(tmp_path / NAME / "__init__.py") in str(caught.value)
    assert NAME not in sys.modules
    assert importlib.import_module(NAME).real
    with pytest.raises(UsageError, match="is imported already") as caught:
        install_alias()
    assert str(tmp_path / NAME / "__init__.py") in str(caught.value)
    assert importlib.import_module(NAME).real


def test_a_module_without_a_file_or_spec_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, NAME, ModuleType(NAME))
    with pytest.raises(UsageError, match="is imported already"):
        install_alias()


# --- code that can't be edited --------------------------------------------------------------------

SCRIPT = """
import sys
import beside
from facenet_pytorch import fixed_image_standardization
print(__name__, sys.argv[1:], beside.VALUE, fixed_image_standardization.__module__)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    pytest.importorskip("torch")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "beside.py").write_text("VALUE = 3\n")
    (tmp_path / "code" / "script.py").write_text(SCRIPT)
    return tmp_path / "code" / "script.py"


def test_a_script_runs_as_it_is(script: Path) -> None:
    options = ("-m", "facenet_models.compat", script, "--size", "-m", "x")
    done = python(*options, folder=script.parents[1])
    assert done.stdout == "__main__ ['--size', '-m', 'x'] 3 facenet_models.detect.crops\n", (
        done.stderr
    )


def test_a_module_runs_as_it_is(script: Path) -> None:
    done = python("-m", "facenet_models.compat", "-m", "script", "a", folder=script.parent)
    assert done.stdout == "__main__ ['a'] 3 facenet_models.detect.crops\n", done.stderr


def test_a_script_that_installs_the_alias_itself(tmp_path: Path) -> None:
    code = "from facenet_models.compat import install_alias\ninstall_alias()\nprint('done')\n"
    (tmp_path / "script.py").write_text(code)
    done = python("-m", "facenet_models.compat", "script.py", folder=tmp_path)
    assert done.stdout == "done\n", done.stderr


def test_wrong_usage(tmp_path: Path) -> None:
    done = python("-m", "facenet_models.compat", "absent.py", folder=tmp_path)
    assert done.returncode == 2
    assert "no such script: absent.py" in done.stderr
    (tmp_path / f"{NAME}.py").touch()
    (tmp_path / "script.py").touch()
    done = python("-m", "facenet_models.compat", "script.py", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: facenet_pytorch can't be an alias of facenet_models")
    assert "Traceback" not in done.stderr


def test_the_exit_code_is_the_scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "script.py").write_text("raise SystemExit(5)\n")
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as caught:
        compat.main([str(tmp_path / "script.py")])
    assert caught.value.code == 5
