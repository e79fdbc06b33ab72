"""The parity certificate as a table for a person."""

from __future__ import annotations

from .parity import ParityReport


def describe_parity(parity: ParityReport) -> str:
    """One line for each figure: its name, its value, what it had to be."""
    relative = f"{parity.score_relative_error:.2%} of the score, {parity.score_max_error:.1e} at most"
    rows = [
        ("map, largest error", f"{parity.map_max_error:.1e}", _limit("at most", parity.tolerance)),
        ("map, mean error", f"{parity.map_mean_error:.1e}", ""),
        ("score, typical error", relative, ""),
        ("scores' rank correlation", _number(parity.rank_correlation), "" if parity.tolerance else "at least 0.99"),
        ("verdicts that flip, good", f"{parity.verdict_flips} of {parity.images}", f"at most {parity.flips_allowed}"),
        ("verdicts that flip, with a patch", f"{parity.pasted_flips} of {parity.pasted}", ""),
        ("threshold", f"{_number(parity.pytorch_threshold)} -> {_number(parity.threshold)}", ""),
    ]
    if parity.accuracy:
        before, after = parity.accuracy["pytorch"], parity.accuracy["file"]
        rows += [(name.replace("_", " "), f"{before[name]:.4g} -> {after[name]:.4g}", "") for name in before]
    lines = [f"  {name:<34}{value:<34}{limit}".rstrip() for name, value, limit in rows]
    verdict = "holds" if parity.holds else "DOES NOT HOLD: " + "; ".join(parity.failures)
    return "\n".join([f"parity with PyTorch, {parity.precision} in {parity.engine}: {verdict}", *lines])


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def _limit(words: str, value: float | None) -> str:
    return "" if value is None else f"{words} {value:.1e}"
