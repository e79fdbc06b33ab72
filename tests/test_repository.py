"""Rules that the whole repository keeps: modules, folders, docstrings, names, and the README's map."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from stfpm_runtime import command

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "runtime/stfpm_runtime", "stfpm_edge", "export/stfpm_export", "benchmarks/stfpm_eval", "benchmarks/stfpm_bench",
)  # fmt: skip
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
MAX_LINES = 300
FEWEST_LINES = 15
MIN_SHARE = 0.95
OLD_NAMES = re.compile(r"station|ruling|ordering|succession|meeting|firing|look_on|keep_up|doorman", re.IGNORECASE)
OLD_CONSTANTS = re.compile(r"(?<![A-Z])(?:MOST|LEAST)(?![A-Z])")
"""A bound is named `MAX_...` or `MIN_...`."""
PLAIN_USES = re.compile(r"partial ordering")
"""Uses of these words in their plain sense."""
VERBS = frozenset(
    """
    accept acknowledge activate add adjust admit advance align allocate allow announce answer append apply ask assemble
    assert attach audit await begin bind blend block blur bound break bring build calibrate call cancel cast change
    check choose claim clear close collect combine compare compile compress compute configure connect consume continue
    convert copy correct count cover create crop cut deactivate decide decode decompress decrease define delete deliver
    dequantise describe deserialise detect determine develop differ disable discard disconnect dispatch distribute
    divert divide do download draw drop dump emit enable encode end enlarge enqueue ensure enter estimate evaluate
    exclude execute exit expand expect explain export expose extend extract fail feed fetch fill filter find finish fit
    fix flatten flip flush fold follow forget format forward free freeze gather generate get give group guard halve
    handle hold ignore import include increase infer initialise inject insert inspect install interpolate interpret
    interrupt intersect invert iterate join judge keep kill launch lay leave let limit list listen load locate lock make
    mark match measure merge move normalise note notify observe offer open overlay override pack pad paint parse pass
    paste pause perform pick poll post predict prepare prevent print process produce promise propagate prove provide
    publish pull push put quantise queue raise read rebuild receive recognise reconnect record recover redact reduce
    refer refuse register reject release reload remember remove rename render repeat replace reply report request
    require reset reshape resize resolve restart restore resume retry return reuse reverse rewind rewrite roll rotate
    round run sample save say scale scan schedule search select send serialise serve set shift show shrink shut silence
    skip sleep sort split spread start stitch stop store stretch subscribe subtract succeed suggest sum summarise supply
    suppress survey swap switch take tell terminate track train transform translate trigger truncate try turn undo
    unload unpack unsubscribe update upsample use validate verify visit wait wake warn watch wipe withdraw wrap write
    yield
    """.split()  # noqa: SIM905 (a list of 250 literals is no easier to read)
)
"""Verbs in the imperative. Words that more often open a sentence as a noun (`time`, `name`, `order`) are not here."""


def docstrings() -> Iterator[tuple[str, str]]:
    """Place and docstring of every function and method of the installed packages that has one."""
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (text := ast.get_docstring(node)):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", text


def opens_with_a_verb(text: str) -> bool:
    return re.split(r"[\s.,:;`(]", text, maxsplit=1)[0].lower() in VERBS


def test_docstrings_of_functions_open_with_a_verb():
    found = list(docstrings())
    wrong = [f"{place}: {text.splitlines()[0]}" for place, text in found if not opens_with_a_verb(text)]
    assert len(found) > 500
    assert 1 - len(wrong) / len(found) >= MIN_SHARE, f"{len(wrong)} of {len(found)}:\n" + "\n".join(wrong)


def test_nouns_are_no_verbs():
    for text in ("The newest frame.", "Whether it is open.", "A number.", "Of the frame.", "uint8 [H, W, 3]."):
        assert not opens_with_a_verb(text)
    assert opens_with_a_verb("Return the newest frame.")


def test_no_module_is_too_long():
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def only_forwards(tree: ast.Module) -> bool:
    """Whether a module holds imports, `__all__` and docstrings alone."""
    return all(
        isinstance(node, ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__")
        for node in tree.body
    )


def test_no_short_module_only_forwards():
    short = {}
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        if path.name != "__init__.py" and len(text.splitlines()) < FEWEST_LINES and only_forwards(ast.parse(text)):
            short[path.relative_to(ROOT).as_posix()] = len(text.splitlines())
    assert short == {}


def test_folder_of_the_line_is_short():
    entries = {path.name for path in (ROOT / "runtime/stfpm_runtime/line").iterdir()} - {"__pycache__"}
    assert len(entries) <= 15, sorted(entries)


def test_old_names_are_gone():
    found = []
    for path in sorted(path for folder in ("runtime", "stfpm_edge", "export", "benchmarks", "examples", "tests")
                       for path in (ROOT / folder).rglob("*.py")):  # fmt: skip
        if "venv" in path.parts or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if OLD_NAMES.search(PLAIN_USES.sub("", line)) or OLD_CONSTANTS.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []


def map_of_the_readme() -> list[str]:
    """The rows of the table "To change X, open Y"."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## To change X, open Y")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ")][2:]


def test_map_of_the_readme_is_short():
    assert 10 <= len(map_of_the_readme()) <= 20


@pytest.mark.parametrize("row", map_of_the_readme())
def test_map_of_the_readme_names_files_that_exist(row):
    """A name without a folder lies in the folder of the name before it."""
    folder = ROOT
    for name in re.findall(r"`([^`]+)`", row.split("|")[2]):
        path = ROOT / name if (ROOT / name).exists() else folder / name
        assert path.exists(), f"{name} is not there"
        folder = path if path.is_dir() else path.parent


PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "benchmarks/README.md"])
SCRIPTS = {f"stfpm-{verb}": command.module_of(verb) for verb in command.verbs()}
PROGRAMS = {
    "cat", "pip", "make", "python", "python3", "curl", "systemctl", "sudo", "scp", "docker", ".venv/bin/pre-commit",
    ".venv/bin/python", "venv/bin/pip",
}  # fmt: skip
GENERATED = ROOT / "docs/reference/commands.md"
"""A page that the hook of MkDocs writes."""
SOURCES = "".join(path.read_text(encoding="utf-8") for folder in (ROOT / "benchmarks", *(ROOT / p for p in PACKAGES))
                  for path in folder.rglob("*.py") if "venv" not in path.parts)  # fmt: skip


def module_file(name: str) -> Path:
    """Return the file of a module of ours, which need not exist."""
    folder = {package.rpartition("/")[2]: ROOT / package for package in PACKAGES}.get(name.partition(".")[0])
    path = (folder or ROOT / name.partition(".")[0]).joinpath(*name.split(".")[1:])
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def commands() -> Iterator[tuple[str, list[str]]]:
    """Give each command of the pages' shell blocks as words, and its page; comments and variables are left out."""
    for page in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in re.sub(r"\\\n", " ", block).splitlines():
                words = re.sub(r"\s#.*|^#.*|^\w+=(\"[^\"]*\"|\S*) +|^\(.*\)", "", line).split()
                words[:1] = [word.removeprefix("venv/bin/") if "stfpm" in word else word for word in words[:1]]
                if words and not words[0].startswith("{"):
                    yield page.name, words


@pytest.mark.parametrize(("script", "module"), SCRIPTS.items())
def test_entry_points_exist(script, module):
    assert "\ndef main(" in module_file(module).read_text(encoding="utf-8"), script


def test_commands_of_the_pages_exist():
    found = list(commands())
    assert len(found) > 25
    for page, words in found:
        assert words[0] in SCRIPTS or words[0] in PROGRAMS, f"{page}: {' '.join(words)}"
        if words[:2] == ["python", "-m"] and words[2] != "pytest":
            assert module_file(words[2]).exists(), f"{page}: {' '.join(words)}"


def test_options_in_the_pages_exist():
    for page, words in commands():
        if words[0] in SCRIPTS or words[:2] == ["python", "-m"]:
            for option in (word.partition("=")[0] for word in words if word.startswith("--")):
                found = f'"{option}"' in SOURCES or f'"{option.removeprefix("--")}"' in SOURCES
                assert found, f"{page}: {option}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_and_paths_of_a_page_exist(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith("http"):
            name, _, anchor = target.partition("#")
            path = page.parent / name if name else page
            assert path.exists() or path == GENERATED, target
            assert not anchor or anchor in anchors(path), target
    if page.name != "CHANGELOG.md":
        for path in re.findall(r"`((?:runtime|stfpm_edge|export|benchmarks|examples|tests|docs)/[\w./-]+)`", text):
            assert (ROOT / path).exists(), path
