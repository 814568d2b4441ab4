"""One model of a release: convert, judge, compare with what was published; step by step.

Runs in a process of its own. torch and TensorFlow are imported here only when a step must be done.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from converter.convert import Request, convert
from converter.sources import open_source
from facenet_common.atomic import write_file
from facenet_common.errors import ParityFailedError
from facenet_common.progress import Progress
from facenet_release.building.inputs import Input, Output
from facenet_release.building.steps import Step
from facenet_release.documents import file_names as names

if TYPE_CHECKING:
    from converter.plan import PartChoice
    from parity_tests.model import ParityReport

CONVERSION = "facenet-parity/conversion/1"


class Say(Protocol):
    """Told what is being done; `minor` for what is part of what was told before."""

    def __call__(self, text: str, minor: bool = False) -> None: ...


@dataclass(frozen=True)
class Made:
    """A weight file that was made, and the report that judged it."""

    output: Output
    sha256: str
    tensor_digest: str | None
    evidence: str


@dataclass(frozen=True)
class Result:
    """One model, finished. `comparison` tells how it differs from what was published."""

    input: Input
    made: tuple[Made, ...]
    comparison: str | None


class _Talker(Progress):
    """Hands on what is being done as a part of `task`."""

    def __init__(self, say: Say, task: str) -> None:
        self._say, self._task = say, task
        say(task)

    def stage(self, name: str, total: int) -> None:  # noqa: ARG002 # the base class's signature
        self._say(f"{self._task}: {name}", minor=True)

    def note(self, text: str) -> None:
        self._say(f"{self._task}: {text}", minor=True)


@dataclass(frozen=True)
class Job:
    """What to make of one input, in `folder`; `records` and `failures` are for this build alone."""

    input: Input
    folder: Path
    records: Path
    failures: Path

    def conversions(self) -> list[Step]:
        """The steps that convert, one for each file that is made straight from the source."""
        return [self._conversion(output) for output in self._converted]

    def run(self, say: Say) -> Result:
        """Make everything. Raises FacenetError; what was finished until then is kept."""
        receipts = {}
        for output in self._converted:
            receipts[output] = self._conversion(output).do(partial(self._convert, output, say))
        main = receipts[self.input.main]
        judged = self._judge(self.input.main, main["sha256"], say)
        made = [
            Made(output, said["sha256"], said["tensor_digest"], judged)
            for output, said in receipts.items()
        ]
        for output in self.input.outputs:
            if output.format == "onnx":
                made.append(self._export(output, main["sha256"], say))
        say("comparing")
        comparison = self._conclude(receipts, main["sha256"])
        return Result(self.input, tuple(made), comparison)

    # --- converting

    @property
    def _converted(self) -> list[Output]:
        return [output for output in self.input.outputs if output.format != "onnx"]

    def _facts(self, **more: object) -> dict[str, object]:
        model = self.input.model
        sources = {file.name: file.sha256 for file in self.input.files}
        return {"model": model.name, "sources": sources, **more}

    def _conversion(self, output: Output) -> Step:
        facts = self._facts(part=output.part)
        return Step(f"convert {output.file}", facts, [output.file], self.folder, self.records)

    def _convert(self, output: Output, say: Say) -> Mapping[str, object]:
        target = self.folder / output.file
        part = cast("PartChoice", output.part)
        request = Request(str(self.input.source), str(target), part=part)
        receipt = convert(request, _Talker(say, f"converting to {output.file}"))
        said = receipt.to_json()
        for key in ("source", "output", "parity"):  # paths of this machine
            del said[key]
        return {
            "sha256": receipt.output_files[0].sha256,
            "tensor_digest": receipt.digest,
            "receipt": said,
        }

    def _export(self, output: Output, weights_sha256: str, say: Say) -> Made:
        facts = self._facts(weights=weights_sha256)
        step = Step(f"export {output.file}", facts, [output.file], self.folder, self.records)

        def work() -> Mapping[str, object]:
            from facenet_models.networks.architectures import from_state_dict
            from facenet_models.onnx.export import export_onnx
            from facenet_models.weights.files import load_state_dict

            say(f"exporting {output.file}")
            model = from_state_dict(load_state_dict(self.folder / self.input.main.file)).eval()
            return {"sha256": export_onnx(model, self.folder / output.file).sha256}

        sha256 = step.do(work)["sha256"]
        return Made(output, sha256, None, self._judge(output, sha256, say))

    # --- judging

    def _judge(self, output: Output, sha256: str, say: Say) -> str:
        """Run every gate on a file, as it lies on the disk; the name of the report's JSON."""
        data = names.report(self.input.model.name, output.format)
        outputs = [data, names.page(data)]
        facts = self._facts(file=output.file, sha256=sha256)
        step = Step(f"judge {output.file}", facts, outputs, self.folder, self.records)

        def work() -> Mapping[str, object]:
            from parity_tests.verify import verify

            source, weights = str(self.input.source), str(self.folder / output.file)
            report = verify(source, weights, progress=_Talker(say, f"judging {output.file}"))
            self.input.require_unchanged()  # what it was judged by has the hashes that are said
            self._save(self._anywhere(report, output, sha256), *outputs)
            return {}

        step.do(work)
        return data

    def _anywhere(self, report: ParityReport, output: Output, sha256: str) -> ParityReport:
        """The report as it would be on any other day, and in any other folder."""
        source = self.input.source
        return replace(
            report,
            reference=report.reference.replace(str(source), source.name),
            candidate=judged(output.file, sha256),
            command=shlex.join(["facenet", "verify", source.name, output.file]),
            gates=tuple(replace(gate, seconds=0.0) for gate in report.gates),
        )

    def _save(self, report: ParityReport, data: str, page: str) -> None:
        from parity_tests.report import save

        folder = self.folder if report.passed else self.failures
        save(report, folder / page, "html")
        save(report, folder / data, "json")
        if not report.passed:
            failed = [gate for gate in report.gates if gate.status not in ("passed", "skipped")]
            raise ParityFailedError(
                f"{self.input.model.name} did not pass; it is not released",
                file=folder / page,
                found="; ".join(f"{gate.name}: {gate.summary}" for gate in failed),
                next_step="the report names the layer; nothing was published",
            )

    # --- what was done, as one file

    def _conclude(self, receipts: Mapping[Output, Mapping[str, Any]], sha256: str) -> str | None:
        model = self.input.model
        published = model.published.sha256 if model.published else None
        name = names.conversion(model.name)
        hashes = {output.file: said["sha256"] for output, said in receipts.items()}
        facts = self._facts(main=sha256, published=published, hashes=hashes)
        step = Step(f"conclude {model.name}", facts, [name], self.folder, self.records)

        def work() -> Mapping[str, object]:
            comparison = self._compare()
            self.input.require_unchanged()
            said = {
                "schema": CONVERSION,
                "model": model.name,
                "sources": {file.name: file.sha256 for file in self.input.files},
                "conversions": {
                    output.file: {key: said[key] for key in ("sha256", "tensor_digest")}
                    for output, said in receipts.items()
                },
                "receipt": receipts[self.input.main]["receipt"],  # the others' are parts of it
                "published": comparison,
            }
            write_file(self.folder / name, json.dumps(said, indent=1).encode() + b"\n")
            return {"verdict": comparison["verdict"] if comparison else None}

        verdict: str | None = step.do(work)["verdict"]
        return verdict

    def _compare(self) -> dict[str, Any] | None:
        """How the weights differ from the published ones, tensor by tensor."""
        from converter.compare import diff

        if self.input.published is None or self.input.model.published is None:
            return None
        ours = open_source(self.folder / self.input.main.file)
        rows = list(diff(ours, open_source(self.input.published)))
        ulps = [row.max_ulp for row in rows if row.kind == "differs"]
        if all(row.kind == "identical" for row in rows):
            verdict = "identical"
        elif all(row.kind in ("identical", "differs") for row in rows) and None not in ulps:
            verdict = f"<= {max(ulp for ulp in ulps if ulp is not None)} ULP"
        else:
            verdict = "differs"
        return {
            "file": Path(self.input.model.published.file).name,
            "sha256": self.input.model.published.sha256,
            "verdict": verdict,
            "tensors": [row.to_json() for row in rows],
        }


def judged(file: str, sha256: str) -> str:
    """How evidence calls the weight file that it is about."""
    return f"{file} (SHA-256 {sha256})"
