"""The build of one model, step by step: convert, judge, compare with what was published.

A job runs in a process of its own. It imports torch and TensorFlow only when a step needs them.
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
from facenet_release.building.inputs import ModelInput, Output
from facenet_release.building.staging import Staging, Step
from facenet_release.documents.manifest import (
    CONVERSION_SCHEMA,
    conversion_file,
    judged_file,
    report_file,
    report_page,
)

if TYPE_CHECKING:
    from converter.plan import PartChoice
    from parity_tests.model import ParityReport


class OnTask(Protocol):
    """A callback for the present task of a job; `minor` marks a part of the task before."""

    def __call__(self, task: str, minor: bool = False) -> None: ...


@dataclass(frozen=True)
class WeightFile:
    """A weight file that was made. `report` is the parity report that judged its weights."""

    output: Output
    sha256: str
    tensor_digest: str | None
    report: str


@dataclass(frozen=True)
class JobResult:
    """A finished model. `comparison` is the verdict against the published weights, if any."""

    input: ModelInput
    files: tuple[WeightFile, ...]
    comparison: str | None


class _TaskProgress(Progress):
    """Report each stage of a library's progress as a minor part of `task`."""

    def __init__(self, on_task: OnTask, task: str) -> None:
        self._on_task, self._task = on_task, task
        on_task(task)

    def stage(self, name: str, total: int) -> None:  # noqa: ARG002 # the base class's signature
        self._on_task(f"{self._task}: {name}", minor=True)

    def note(self, text: str) -> None:
        self._on_task(f"{self._task}: {text}", minor=True)


@dataclass(frozen=True)
class Job:
    """The build of one model.

    Args:
        input: The model.
        staging: The working folder of the build.

    Examples:
        >>> Job(model_input, staging).run(lambda task, minor=False: None)  # doctest: +SKIP
    """

    input: ModelInput
    staging: Staging

    def conversions(self) -> list[Step]:
        """Return the conversion steps, one for each file that is converted from the source."""
        return [self._conversion(output) for output in self._converted]

    def run(self, on_task: OnTask) -> JobResult:
        """Build the model.

        Args:
            on_task: Called with the name of each task before it starts.

        Raises:
            ParityFailedError: A gate failed; its report is in the folder ``failed/``.
            ReleaseError: A source changed during the build.
            FacenetError: A step can't be done. Finished steps are kept.
        """
        receipts = {}
        for output in self._converted:
            receipts[output] = self._conversion(output).run(partial(self._convert, output, on_task))
        main = receipts[self.input.main]
        report = self._judge(self.input.main, main["sha256"], on_task)
        files = [
            WeightFile(output, receipt["sha256"], receipt["tensor_digest"], report)
            for output, receipt in receipts.items()
        ]
        for output in self.input.outputs:
            if output.format == "onnx":
                files.append(self._export(output, main["sha256"], on_task))
        on_task("comparing")
        comparison = self._record_conversion(receipts, main["sha256"])
        return JobResult(self.input, tuple(files), comparison)

    def _step(self, name: str, outputs: list[str], **inputs: object) -> Step:
        sources = {file.name: file.sha256 for file in self.input.files}
        inputs = {"model": self.input.model.name, "sources": sources, **inputs}
        return Step(name, inputs, outputs, self.staging.release, self.staging.steps)

    def _path(self, output: Output) -> Path:
        return self.staging.release / output.file

    # --- convert

    @property
    def _converted(self) -> list[Output]:
        return [output for output in self.input.outputs if output.format != "onnx"]

    def _conversion(self, output: Output) -> Step:
        return self._step(f"convert {output.file}", [output.file], part=output.part)

    def _convert(self, output: Output, on_task: OnTask) -> Mapping[str, object]:
        part = cast("PartChoice", output.part)
        request = Request(str(self.input.source), str(self._path(output)), part=part)
        receipt = convert(request, _TaskProgress(on_task, f"converting to {output.file}"))
        data = receipt.to_json()
        for key in ("source", "output", "parity"):  # which have paths of this machine
            del data[key]
        return {
            "sha256": receipt.output_files[0].sha256,
            "tensor_digest": receipt.digest,
            "receipt": data,
        }

    def _export(self, output: Output, weights_sha256: str, on_task: OnTask) -> WeightFile:
        step = self._step(f"export {output.file}", [output.file], weights=weights_sha256)

        def work() -> Mapping[str, object]:
            from facenet_models.networks.architectures import from_state_dict
            from facenet_models.onnx.export import export_onnx
            from facenet_models.weights.files import load_state_dict

            on_task(f"exporting {output.file}")
            model = from_state_dict(load_state_dict(self._path(self.input.main))).eval()
            return {"sha256": export_onnx(model, self._path(output)).sha256}

        sha256 = step.run(work)["sha256"]
        return WeightFile(output, sha256, None, self._judge(output, sha256, on_task))

    # --- judge

    def _judge(self, output: Output, sha256: str, on_task: OnTask) -> str:
        """Run every gate on a weight file; return the name of the report."""
        name = report_file(self.input.model.name, output.format)
        outputs = [name, report_page(name)]
        step = self._step(f"judge {output.file}", outputs, file=output.file, sha256=sha256)

        def work() -> Mapping[str, object]:
            from parity_tests.verify import verify

            progress = _TaskProgress(on_task, f"judging {output.file}")
            report = verify(str(self.input.source), str(self._path(output)), progress=progress)
            self.input.require_unchanged()  # or the report would state wrong hashes
            self._save(self._without_paths(report, output, sha256), name)
            return {}

        step.run(work)
        return name

    def _without_paths(self, report: ParityReport, output: Output, sha256: str) -> ParityReport:
        """Return the report without this machine's paths and times, so that it is reproducible."""
        source = self.input.source
        return replace(
            report,
            reference=report.reference.replace(str(source), source.name),
            candidate=judged_file(output.file, sha256),
            command=shlex.join(["facenet", "verify", source.name, output.file]),
            gates=tuple(replace(gate, seconds=0.0) for gate in report.gates),
        )

    def _save(self, report: ParityReport, name: str) -> None:
        """Save the report as JSON and as a page. Raises ParityFailedError if it failed."""
        from parity_tests.report import save

        folder = self.staging.release if report.passed else self.staging.failed
        page = folder / report_page(name)
        save(report, page, "html")
        save(report, folder / name, "json")
        if not report.passed:
            failed = [gate for gate in report.gates if gate.status not in ("passed", "skipped")]
            raise ParityFailedError(
                f"{self.input.model.name} failed a gate; it is not released",
                file=page,
                found="; ".join(f"{gate.name}: {gate.summary}" for gate in failed),
                next_step="read the report, which names the layer; nothing was published",
            )

    # --- compare and record

    def _record_conversion(
        self, receipts: Mapping[Output, Mapping[str, Any]], sha256: str
    ) -> str | None:
        """Write the conversion record; return the verdict against the published weights."""
        model = self.input.model
        name = conversion_file(model.name)
        step = self._step(
            f"record {model.name}",
            [name],
            main=sha256,
            published=model.published.sha256 if model.published else None,
            hashes={output.file: receipt["sha256"] for output, receipt in receipts.items()},
        )

        def work() -> Mapping[str, object]:
            comparison = self._compare()
            self.input.require_unchanged()
            record = {
                "schema": CONVERSION_SCHEMA,
                "model": model.name,
                "sources": {file.name: file.sha256 for file in self.input.files},
                "conversions": {
                    output.file: {key: receipt[key] for key in ("sha256", "tensor_digest")}
                    for output, receipt in receipts.items()
                },
                "receipt": receipts[self.input.main]["receipt"],  # those of parts are subsets of it
                "published": comparison,
            }
            data = json.dumps(record, indent=1).encode() + b"\n"
            write_file(self.staging.release / name, data)
            return {"verdict": comparison["verdict"] if comparison else None}

        verdict: str | None = step.run(work)["verdict"]
        return verdict

    def _compare(self) -> dict[str, Any] | None:
        """Compare the weights with the published ones, tensor by tensor."""
        from converter.compare import diff

        if self.input.published is None or self.input.model.published is None:
            return None
        ours = open_source(self._path(self.input.main))
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
