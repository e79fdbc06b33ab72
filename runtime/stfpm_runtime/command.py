"""`stfpm VERB ...`: all commands under one name; `stfpm inspect` is `stfpm-inspect`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from . import cli

COMMAND = "stfpm"
GROUPS = {
    "make a model": {
        "train": (
            "stfpm_edge.cli",
            "train a student on good pictures, choose its score and set its threshold",
            "stfpm train data/bottle -o bottle.safetensors",
        ),
        "export": (
            "stfpm_export.cli",
            "export to ONNX or TensorRT, and compare the file with PyTorch",
            "stfpm export bottle.safetensors --precision int8",
        ),
        "eval": (
            "stfpm_eval.cli",
            "measure a model on labelled pictures, or ask whether it may replace another",
            "stfpm eval bottle.onnx data/bottle",
        ),
        "pretrain": ("stfpm_edge.pretrain.cli", "pre-train a teacher", "stfpm pretrain --help"),
    },
    "inspect with it": {
        "inspect": (
            "stfpm_runtime.batch.cli",
            "judge pictures and videos, or run a line of cameras",
            "stfpm inspect bottle.onnx parts/",
        ),
        "calibrate": (
            "stfpm_runtime.batch.calibrate",
            "set the threshold again on the device",
            "stfpm calibrate bottle.onnx good/ -o monday.onnx",
        ),
        "bench": (
            "stfpm_bench.cli",
            "measure latency, memory and accuracy of model files",
            "stfpm bench bottle.onnx --parity",
        ),
        "selftest": (
            "stfpm_export.selftest_cli",
            "check that this machine computes what PyTorch computes",
            "stfpm selftest",
        ),
    },
    "look back, and improve": {
        "journal": (
            "stfpm_runtime.line.journal.command.cli",
            "counts, yield, rejects, labels and thresholds of a line",
            "stfpm journal line.sqlite --since 8h",
        ),
        "study": (
            "stfpm_runtime.study.cli",
            "measurement system analysis: do decisions and scores of the same parts repeat?",
            "stfpm study line.sqlite --reference parts.csv --html study.html",
        ),
        "users": (
            "stfpm_runtime.line.web.http.users_cli",
            "manage the users of a line's dashboard and API, and their roles",
            "stfpm users users.json add Ada --role engineer",
        ),
        "dataset": (
            "stfpm_runtime.dataset.cli",
            "add labelled parts to a data set",
            "stfpm dataset data/bottle line.sqlite --pictures pictures",
        ),
        "models": (
            "stfpm_runtime.line.models.cli",
            "lineage of model files; shadow, activate and roll back on a line",
            "stfpm models list models",
        ),
    },
}
"""Each verb with its module, what it does, and an example."""
COMPLETIONS = {
    "bash": 'complete -o default -W "{verbs}" stfpm',
    "zsh": 'compdef \'_arguments "1:verb:({verbs})" "*:file:_files"\' stfpm',
    "fish": 'complete -c stfpm -n __fish_use_subcommand -a "{verbs}"',
}
"""The line that completes verbs, and then files, in each shell."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the verb's command and return its exit code: 2 for a verb that there is not."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help", "help"):
        return _answer(help_text())
    if verb in ("-V", "--version"):
        from importlib.metadata import version

        return _answer(f"stfpm-edge {version('stfpm-edge')}")
    if verb == "--completion":
        shell = arguments[1] if len(arguments) > 1 else ""
        if shell in COMPLETIONS:
            return _answer(COMPLETIONS[shell].format(verbs=" ".join(verbs())))
        return _refuse(f"--completion {shell}".strip(), "--completion with one of " + ", ".join(COMPLETIONS))
    if verb not in verbs():
        return _refuse(verb, f"one of {', '.join(verbs())}")
    try:
        run = import_module(module_of(verb)).main
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0].startswith("stfpm"):
            raise
        print(f"{COMMAND}-{verb}: error: needs the package {error.name}, which is not installed; "
              "the README says which extra has it", file=sys.stderr)  # fmt: skip
        return 1
    except KeyboardInterrupt:  # while the packages are imported, which takes seconds
        print(f"{COMMAND}-{verb}: interrupted", file=sys.stderr)
        return 130
    code: int = run(arguments[1:])
    return code


def script() -> int:
    """Run the command whose name the program was started by, `stfpm-train` for example."""
    return main([Path(sys.argv[0]).stem.removeprefix(f"{COMMAND}-"), *sys.argv[1:]])


def verbs() -> list[str]:
    """Return all verbs in the order of the help."""
    return [verb for group in GROUPS.values() for verb in group]


def module_of(verb: str) -> str:
    """Return the module whose `main` is the command `stfpm-VERB`."""
    return next(group[verb][0] for group in GROUPS.values() if verb in group)


def help_text() -> str:
    """Return what the verbs do, in groups, with an example of each."""
    lines = ["usage: stfpm VERB ...    (stfpm VERB --help; stfpm --version; stfpm --completion bash|zsh|fish)"]
    for title, group in GROUPS.items():
        lines += ["", f"{title}:"]
        for verb, (_, text, example) in group.items():
            lines += [f"  {verb:10} {text}", f"  {'':10} {example}"]
    return "\n".join(lines)


def _answer(text: str) -> int:
    """Print a text as a command does whose stdout may be closed."""

    def answer() -> int:
        print(text)
        return 0

    return cli.run(COMMAND, answer)


def _refuse(got: str, expected: str) -> int:
    print(f"{COMMAND}: error: got {got!r}; expected {expected}", file=sys.stderr)
    return 2
