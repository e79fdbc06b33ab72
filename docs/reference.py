"""A hook of MkDocs: the page of the commands is written from their own help, and links into the repository are kept."""

from __future__ import annotations

import contextlib
import io
import os
import re
from importlib import import_module

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from stfpm_runtime.command import GROUPS

OUTSIDE = re.compile(r"\[([^\]]*)\]\((\.\./)+(?!docs/)[^)]*\)")
"""A link to a file of the repository that is no page of the site."""


def help_of(module: str) -> str:
    """Return what a command prints for --help, 100 columns wide."""
    os.environ["COLUMNS"] = "100"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        import_module(module).main(["--help"])
    return printed.getvalue()


def commands() -> str:
    """Return the page of all commands, in the groups of `stfpm`."""
    lines = ["# Commands", "", "`stfpm VERB` and `stfpm-VERB` are the same command.", ""]
    for title, group in GROUPS.items():
        lines += [f"## To {title}" if title != "inspect with it" else "## To inspect", ""]
        for verb, (module, text, example) in group.items():
            lines += [f"### stfpm {verb}", "", f"{text[0].upper()}{text[1:]}.", "", "```sh", example, "```", ""]
            lines += ["```text", help_of(module).rstrip(), "```", ""]
    return "\n".join(lines)


def on_files(files: Files, config: MkDocsConfig, **_: object) -> Files:
    """Add the generated page."""
    files.append(File.generated(config, "reference/commands.md", content=commands()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Name files of the repository instead of linking them: the site has none of them."""
    return OUTSIDE.sub(r"\1", markdown) if page.file.src_uri.count("/") == 0 else markdown
