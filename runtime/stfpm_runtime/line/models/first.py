"""Choose, load and check the model that a line begins with."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from stfpm_runtime.errors import ArtifactError, StfpmError
from stfpm_runtime.files import sha256
from stfpm_runtime.line.config.line import LineOptions
from stfpm_runtime.line.journal.active_model import ActiveModelRow, FileIdentity, absolute, read_active_model
from stfpm_runtime.line.journal.reader import open_for_reading
from stfpm_runtime.model_check import Model, load_checked

from .swap import load_tried, opener, rules_of

LOG = logging.getLogger("stfpm.model")


@dataclass(frozen=True, eq=False)
class FirstModel:
    """The model that a line begins with."""

    model: Model
    configured: FileIdentity
    """The file that the configuration names."""
    who: str = ""
    """The name of who chose the model; empty for the configuration."""
    log_event: str = ""
    """The text of an event, where the model is another one than the configured one; empty otherwise."""


def first_model(options: LineOptions) -> FirstModel:
    """Load the model that was in use when the line stopped, or the configured one; both are checked.

    A model that was put in the configured one's place is used again while the configuration names the same file with
    the same contents, and the model still passes the check. Raises StfpmError where the configured one does not.
    """
    rules, active = rules_of(options), _active_model(options.journal.path)
    configured = FileIdentity(absolute(options.model), _sha256(options.model))
    log_event = ""
    if active and active.path not in (active.configured_path, configured.path):
        try:
            if (active.configured_path, active.configured_sha256) != (configured.path, configured.sha256):
                raise ArtifactError("the configuration names another model now")
            if Path(active.path).parent != Path(configured.path).parent:
                raise ArtifactError("it does not lie beside the configured one")
            if rules.sha256 not in ("", active.sha256):
                raise ArtifactError("it is not the file that the key sha256 of the configuration names")
            model = load_tried(Path(active.path), options, dataclasses.replace(rules, sha256=active.sha256))
        except StfpmError as error:
            log_event = f"{active.path}, which {active.who} chose at {active.time}, is not used again: {error}"
            LOG.error("%s", log_event)
        else:
            log_event = f"{model.describe()} is used again: {active.who} chose it at {active.time}"
            LOG.warning("%s", log_event)
            return FirstModel(model, configured, active.who, log_event)
    if active and not rules.product:
        rules = dataclasses.replace(rules, product=active.product)
    try:
        return FirstModel(
            load_checked(options.model, opener(options), rules, options.threshold), configured, "", log_event
        )
    except StfpmError as error:
        if active and not options.product and "is for the product" in str(error):
            raise ArtifactError(
                f"{error}, of which this journal has verdicts; set the key product of the configuration, or use "
                "another journal"
            ) from None
        raise


def _active_model(journal: Path) -> ActiveModelRow | None:
    """Return what the journal says of the model in use; None where it says nothing or cannot be read."""
    with contextlib.suppress(sqlite3.Error, OSError):
        if journal.is_file():
            with contextlib.closing(open_for_reading(journal)) as connection:
                return read_active_model(connection)
    return None


def _sha256(path: Path) -> str:
    """Return a file's SHA-256; empty where it cannot be read, of which whoever opens it says why."""
    with contextlib.suppress(OSError):
        return sha256(path)
    return ""
