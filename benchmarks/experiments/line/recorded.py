"""The recorded results as a page: `python -m benchmarks.experiments.line.recorded` writes benchmarks/README.md.

    benchmarks/results/<machine>/bench.json       stfpm-bench --json, of our exports
    benchmarks/results/<machine>/peers.json       make peers: ours and anomalib's, in one run
    benchmarks/results/<machine>/methods.json     make peers: ours and anomalib's other methods
    benchmarks/results/<machine>/installs.json    make peers: what is installed for either

Nothing in the page is written by hand, and a test holds it against the data.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stfpm_bench.report.charts import accuracy_over_latency
from stfpm_bench.report.report_tables import conditions, megabytes, number, reader_notes, sections
from stfpm_bench.report.text import markdown_table
from stfpm_bench.results import BenchReport, ModelResult, load_report
from stfpm_runtime.cli import run
from stfpm_runtime.errors import DataError

BENCHMARKS = Path(__file__).resolve().parents[2]
OURS = "ours, "
PEER = "anomalib Stfpm OpenVINO int8"
PEER_FP32 = "anomalib Stfpm OpenVINO"
PEER_HELD = "anomalib Stfpm OpenVINO held to fp32"

OPENING = """# Benchmarks

Measured by `stfpm-bench` and `make peers`; what they measure and how: [docs/benchmarking.md](../docs/benchmarking.md).
This page is made from `results/` by `python -m benchmarks.experiments.line.recorded`: to change it, measure again.
"""


@dataclass(frozen=True)
class Bar:
    """A goal, as a share of a peer's figure."""

    text: str
    limit: float
    peer: str
    figure: Callable[[ModelResult], float | None]


def _p50(model: ModelResult) -> float | None:
    return model.latency.p50_ms if model.latency else None


def _memory(model: ModelResult) -> float | None:
    return model.peak_bytes


def _start(model: ModelResult) -> float | None:
    return model.cold_start.p50_ms if model.cold_start else None


BARS = (
    Bar("latency, p50, against its OpenVINO int8", 0.5, PEER, _p50),
    Bar("latency, p50, against its OpenVINO fp32 file", 0.25, PEER_FP32, _p50),
    Bar("latency, p50, against that held to fp32", 0.25, PEER_HELD, _p50),
    Bar("peak resident memory", 0.4, PEER, _memory),
    Bar("cold start", 0.25, PEER, _start),
)
INSTALL_LIMIT = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.experiments.line.recorded", description="Write benchmarks/README.md."
    )
    parser.parse_args(argv)
    return run("recorded", _write)


def _write() -> int:
    for path, text in render(BENCHMARKS).items():
        path.write_text(text, encoding="utf-8")
        print(path, file=sys.stderr)
    return 0


def render(benchmarks: Path) -> dict[Path, str]:
    """Return the texts of the page and of its charts, by path. Raises DataError where nothing is recorded."""
    machines = sorted(
        {path.parent for name in ("bench", "peers") for path in benchmarks.glob(f"results/*/{name}.json")}
    )
    if not machines:
        raise DataError(f"{benchmarks / 'results'}: nothing is recorded there; expected <machine>/bench.json")
    parts: list[str] = [OPENING]
    files: dict[Path, str] = {}
    for folder in machines:
        parts.append(f"## {folder.name}\n")
        if (folder / "peers.json").is_file():
            report = load_report(folder / "peers.json")
            parts += ["### Compared with anomalib's Stfpm, from a frame to its decision\n", *_table(report)]
            bench = folder / "bench.json"
            parts += _reached(
                report, _installs(folder / "installs.json"), load_report(bench) if bench.is_file() else None
            )
            parts += _plot(report, folder / "peers.svg", files)
        if (folder / "methods.json").is_file():
            report = load_report(folder / "methods.json")
            parts += ["### Compared with anomalib's other methods\n", *_table(report)]
            parts += _plot(report, folder / "methods.svg", files)
        if (folder / "bench.json").is_file():
            parts += _ours(load_report(folder / "bench.json"))
    files[benchmarks / "README.md"] = "\n".join(parts)
    return files


def _plot(report: BenchReport, path: Path, files: dict[Path, str]) -> list[str]:
    """Return the lines that show the chart of accuracy against latency, and add its file."""
    chart = accuracy_over_latency(report)
    if chart is None:
        return []
    files[path] = chart.svg
    return [f"![{chart.title}](results/{path.parent.name}/{path.name})\n\n*{chart.title}. {chart.caption}*\n"]


def _table(report: BenchReport) -> Iterator[str]:
    yield _list(conditions(report))
    rows = [_peer_row(model) for model in report.models]
    headings = ("", "precision", "run by", "p50, ms", "p99", "after 1 s idle", "cold start, s", "memory, MB",
                "file, MB", "epochs trained", "image AUROC", "pixel AUROC", "PRO")  # fmt: skip
    yield markdown_table(headings, rows) + "\n"
    if lines := reader_notes(report):
        yield _list(lines)


def _reached(report: BenchReport, installs: dict[str, dict[str, int]], bench: BenchReport | None) -> Iterator[str]:
    yield "#### What we set out to reach\n"
    yield markdown_table(*_bars(report, installs, bench)) + "\n"
    if bench and any(model.roofline for model in bench.models):
        yield (
            "*The least*: what would be left if every layer ran at this processor's peak (the roofline below), the "
            "rest of the head, quantising and dequantising were free, and only resize and decision took their time.\n"
        )
    if installs:
        rows = [
            [name, megabytes(one["bytes"]), megabytes(one["bytes"] - one["cuda_bytes"])]
            for name, one in installs.items()
        ]
        yield markdown_table(("installed", "MB", "MB without CUDA's libraries"), rows) + "\n"


def _peer_row(model: ModelResult) -> list[str]:
    accuracy, start = model.accuracy, _start(model)
    return [
        model.name,
        model.precision,
        model.provider,
        _with_width(model),
        number(model.latency.p99_ms if model.latency else None, ".1f"),
        number(model.idle[0].p50_ms if model.idle else None, ".1f"),
        number(None if start is None else start / 1e3, ".2f"),
        megabytes(model.peak_bytes),
        megabytes(model.file_bytes),
        number(model.epochs, "d"),
        *(
            number(getattr(accuracy, figure) if accuracy else None, ".4f")
            for figure in ("image_auroc", "pixel_auroc", "pro")
        ),
    ]


def _bars(
    report: BenchReport, installs: dict[str, dict[str, int]], bench: BenchReport | None
) -> tuple[list[str], list[list[str]]]:
    models = {model.name: model for model in report.models}
    ours = [model for model in report.models if model.name.startswith(OURS) and model.precision == "int8"]
    rows = []
    for bar in BARS:
        theirs = bar.figure(models[bar.peer]) if bar.peer in models else None
        texts = [
            _verdict(bar.figure(model), theirs, bar.limit)
            + (_least(model, theirs, bench) if bar.figure is _p50 else "")
            for model in ours
        ]
        rows.append([f"{bar.text}: {bar.limit:g} or less of anomalib's", *texts])
    if installs:
        whole = installs["anomalib"]
        for text, theirs in (
            ("as pip installs it", whole["bytes"]),
            ("without CUDA", whole["bytes"] - whole["cuda_bytes"]),
        ):
            names = ["ours, [openvino]" if "OpenVINO" in model.provider else "ours, [cpu]" for model in ours]
            texts = [_verdict(installs[name]["bytes"], theirs, INSTALL_LIMIT) for name in names]
            rows.append([f"installed size: {INSTALL_LIMIT:g} or less of anomalib's, {text}", *texts])
    return ["", *(model.name for model in ours)], rows


def _least(model: ModelResult, theirs: float | None, bench: BenchReport | None) -> str:
    """Return the share that this machine's limit leaves, for the same file; empty where it was not measured."""
    limits = {one.sha256: one.roofline.limit_ms for one in (bench.models if bench else ()) if one.roofline}
    if model.sha256 not in limits or model.latency is None or not theirs:
        return ""
    rest = sum(model.latency.stages_ms.get(stage) or 0.0 for stage in ("resize", "decision"))
    return f"; the least is {(limits[model.sha256] + rest) / theirs:.2f}"


def _verdict(our: float | None, theirs: float | None, limit: float) -> str:
    if not our or not theirs:
        return "not measured"
    share = our / theirs
    return f"{share:.2f}, reached" if share <= limit else f"**{share:.2f}, missed**"


def _ours(report: BenchReport) -> Iterator[str]:
    yield "### Our exports\n"
    yield _list(conditions(report))
    if lines := reader_notes(report):
        yield _list(lines)
    for section in sections(report):
        yield f"#### {section.title}\n"
        yield markdown_table(section.headings, section.rows) + "\n"


def _with_width(model: ModelResult) -> str:
    return f"{model.latency.p50_ms:.1f} ± {model.latency.p50_half_width_ms:.1f}" if model.latency else "-"


def _installs(path: Path) -> dict[str, dict[str, int]]:
    if not path.is_file():
        return {}
    return {one["name"]: one for one in json.loads(path.read_text(encoding="utf-8"))["installs"]}


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
