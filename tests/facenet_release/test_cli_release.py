"""``facenet release`` as a user meets it: what it prints, in which code it ends."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.small_release import write_inputs, write_recipe

from facenet_release.building.build import Built
from facenet_release.building.rebuild import Rebuilt
from facenet_release.cli import release
from facenet_release.output import BuildProgress, show_built


def run(*arguments: object) -> Result:
    return CliRunner().invoke(release, [str(argument) for argument in arguments])


@pytest.mark.parametrize("command", ["build", "check", "sign", "publish", "rebuild"])
def test_help_has_examples_and_exit_codes(command: str) -> None:
    done = run(command, "--help")
    assert done.exit_code == 0
    assert f"facenet release {command} " in done.output
    assert "Exit codes: 0" in done.output


@pytest.mark.tensorflow
@pytest.mark.usefixtures("in_process")
def test_build_tells_what_it_does_and_what_it_made(inputs: Path) -> None:
    recipe, out = write_recipe(inputs, ("pnet",)), inputs / "dist"
    planned = run("build", recipe, "--out", out, "--dry-run")
    assert planned.exit_code == 0
    assert "pnet.safetensors" in planned.output
    assert not out.exists()
    said = json.loads(run("build", recipe, "--out", out, "--dry-run", "--json").output)
    assert [row["name"] for row in said["models"][0]["files"]] == ["pnet.pt", "pnet.safetensors"]

    done = run("build", recipe, "--out", out)
    assert done.exit_code == 0, done.output
    assert "1 model in 2 files, all gates passed" in done.stdout
    assert "] pnet: judging pnet.pt" in done.stderr
    assert "float64" not in done.stderr  # minor, and standard error is no terminal
    again = run("build", recipe, "--out", out, "--json")
    assert json.loads(again.stdout)["built"] is False
    assert json.loads(again.stdout)["manifest_sha256"] in done.stdout


def test_a_command_to_go_on_with_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    show_built(Built(Path("my dist"), "0" * 64, ()))
    assert "facenet release sign 'my dist' --private-key" in capsys.readouterr().out


def test_as_many_models_are_worked_on_as_is_said(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def build(_recipe: object, out: Path, jobs: int | None, _told: object) -> Built:
        asked.append(jobs)
        return Built(out, "0" * 64, None)

    monkeypatch.setattr("facenet_release.building.build.build", build)
    command = ["build", write_recipe(inputs), "--out", inputs / "dist"]
    for more in ([], ["--jobs", 3]):
        assert run(*command, *more).exit_code == 0
    assert asked == [None, 3]
    assert run(*command, "--jobs", 0).exit_code == 2


def test_other_weights_end_a_rebuild_in_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    rebuilt = Rebuilt(("a.pt",), ("b.pt", "b.md"), (), (), {"b.pt": "weights", "b.md": "card"})
    monkeypatch.setattr("facenet_release.building.rebuild.rebuild", lambda *_: rebuilt)
    done = run("rebuild", "dist")
    assert done.exit_code == 1
    assert "are NOT the same" in done.stdout
    assert "DIFFERENT  b.pt\n" in done.stdout
    assert "differing  b.md\n" in done.stdout
    done = run("rebuild", "dist", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["reproduced"] is False


def test_on_a_terminal_each_model_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with BuildProgress(["a", "b"]) as progress:
        progress.update("a", "converting", False)
        progress.update("a", "converting: a part", True)
        progress.update("a", "done", False)
        progress.update("", "checking", False)
        rows = {row.description: row for row in progress._live.tasks}
    said = {name: (row.fields["what"], row.stop_time is None) for name, row in rows.items()}
    assert said == {"a": ("done", False), "b": ("waiting", True), "release": ("checking", True)}
    assert not rows["b"].started


def test_a_wrong_recipe_ends_in_code_2(inputs: Path) -> None:
    recipe = inputs / "r.toml"
    recipe.write_text("[release]\nname = 3\n")
    done = run("build", recipe, "--out", inputs / "dist")
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: the recipe is wrong\n")
    assert "  - release.name: 3 is not of type 'string'" in done.stderr
    said = json.loads(run("build", recipe, "--out", inputs / "dist", "--json").stdout)
    assert said["error"] == "RecipeError"
    assert any("release.name" in finding for finding in said["findings"])
    assert not (inputs / "dist").exists()


@pytest.mark.tensorflow
def test_check_tells_what_was_checked(small_release: Path) -> None:
    done = run("check", small_release)
    assert done.exit_code == 0
    assert "small 1.0.0 passed all checks" in done.stdout
    assert "nothing shows who made this release" in done.stdout
    said = json.loads(run("check", small_release, "--json").stdout)
    assert said["signature"] == "none"
    asked = run("check", small_release, "--manifest-sha256", "sha256:" + said["manifest_sha256"])
    assert asked.exit_code == 0
    assert "has the requested hash" in asked.stdout
    assert run("check", small_release, "--manifest-sha256", "12").exit_code == 2
    assert run("check", small_release, "--manifest-sha256", "0" * 64).exit_code == 1


@pytest.mark.tensorflow
def test_check_waits_for_no_grammar_of_iris(small_release: Path) -> None:
    code = "import sys; from converter.cli.main import facenet; facenet(standalone_mode=False); "
    code += "print([name for name in sys.modules if name.startswith(('rfc3987', 'torch', 'lark'))])"
    command = [sys.executable, "-c", code, "release", "check", str(small_release)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.tensorflow
def test_a_signature_that_nobody_checked_is_not_called_good(release_copy: Path) -> None:
    (release_copy / "model.sig").write_bytes(b"{}")
    assert "not checked; give --public-key" in run("check", release_copy).stdout
    assert json.loads(run("check", release_copy, "--json").stdout)["signature"] == "not checked"


@pytest.mark.tensorflow
def test_check_ends_in_code_1_and_lists_everything(release_copy: Path) -> None:
    (release_copy / "pnet.pt").write_bytes(b"")
    (release_copy / "rnet.pt").unlink()
    done = run("check", release_copy)
    assert done.exit_code == 1
    assert "  - pnet.pt: expected 29537 bytes, found 0" in done.stderr
    assert "  - rnet.pt: No such file" in done.stderr
    assert len(json.loads(run("check", release_copy, "--json").stdout)["findings"]) == 2


def test_check_of_nothing_ends_in_code_2(tmp_path: Path) -> None:
    assert run("check", tmp_path / "no").exit_code == 2
    assert run("check").exit_code == 2


@pytest.mark.tensorflow
def test_publish_to_a_folder(small_release: Path, tmp_path: Path) -> None:
    done = run("publish", small_release, "--to", tmp_path / "there")
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'there'}: small 1.0.0 passed all checks" in done.stdout
    assert run("check", tmp_path / "there").exit_code == 0
    (tmp_path / "there" / "pnet.pt").write_bytes(b"x")
    done = run("publish", small_release, "--to", tmp_path / "there")
    assert done.exit_code == 1
    assert "something else is published" in done.stderr
    assert run("publish", small_release, "--to", "ftp://x/y").exit_code == 2


@pytest.mark.tensorflow
def test_rebuild_tells_whether_the_bytes_came_out(release_copy: Path, tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    write_inputs(tmp_path / "inputs")
    done = run("rebuild", release_copy, "--inputs", tmp_path / "inputs")
    assert done.exit_code == 0, done.output
    assert "the rebuilt weights are the same" in done.stdout
    said = json.loads(
        run("rebuild", release_copy, "--inputs", tmp_path / "inputs", "--json").stdout
    )
    assert said["reproduced"]
    assert said["different"] == []
    assert run("rebuild", release_copy, "--inputs", tmp_path / "absent").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("build", "release.toml", "--out", "dist"),
        ("check", "dist"),
        ("check", "oci://ghcr.io/some/weights:1"),
        ("sign", "dist", "--private-key", "key.pem"),
        ("publish", "dist", "--to", "there"),
        ("rebuild", "dist"),
    ],
)
def test_without_the_extra_every_command_names_it(arguments: tuple[str, ...]) -> None:
    """As with `pip install facenet-parity` alone, which also brings no torch and no TensorFlow."""
    absent = ["cyclonedx", "filelock", "jinja2", "jsonschema", "requests", "rfc8785", "torch"]
    code = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
import importlib.util
before = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in {absent} else before(name, *a)
from facenet_release.cli import release
release({list(arguments)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "facenet release needs cyclonedx-python-lib" in done.stderr
    assert 'pip install "facenet-parity[release]"' in done.stderr
