"""An evaluation as a Markdown page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cli.study.judging import MEASURES, VOTERS

_MOST_CLASSES_ACROSS = 16  # a wider table is read by nobody
_MOST_CONFUSIONS = 25

_NOTES = f"""\
How it was measured: every image with a label is a query, ranked against all other labelled images outside its own
group by the cosine similarity of their vectors (ties by id). P@k is the share of the first k that have the query's
label, recall@k the share of all that have it which are among the first k, mAP the mean over queries of average
precision. *Micro* is the mean over queries, *macro* the mean over labels of each label's mean, so that rare labels
count as much as common ones. *Chance* is the exact expectation of a random order. Queries that no other image could
match are left out. In the confusion table, a query is taken for the label that most of its {VOTERS} nearest have (of
equals, the nearest's). These figures compare labels of one collection; they say nothing of how right a label is.
"""


def page(result: dict[str, Any]) -> str:
    """The whole page: the facts, the figures, by class, by other fields, who is taken for whom."""
    parts = [
        f"# {_text(result['collection'])}: do the nearest images have the same `{_text(result['label'])}`?",
        _facts(result),
        "## All",
        _averages(result),
        "## By label",
        _classes(result["classes"]),
        *(part for field, strata in result["by"].items() for part in _strata(field, strata)),
        "## Taken for",
        _confusion(result),
        _NOTES,
    ]
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _facts(result: dict[str, Any]) -> str:
    left_out = result["left_out"]
    group = f"`{_text(result['group'])}`" if result["group"] else "none, so only the query itself is left out"
    facts = [
        f"Model: `{_text(result['model'])}` ({_text(result['preprocessing'])}, {result['dimension']} dimensions)",
        f"Group: {group}",
        *([f"Filter: `{_text(result['filter'])}`"] if result["filter"] else []),
        f"{result['images']:,} images with a label, {result['queries']:,} queries"
        + (f", drawn from a sample of {result['sample']:,}" if result["sample"] else ""),
        f"Left out: {left_out['without_label']:,} images without the label, "
        f"{left_out['without_relevant_candidate']:,} queries that no other image could match",
    ]
    return "\n".join(f"- {fact}" for fact in facts)


def _averages(result: dict[str, Any]) -> str:
    means = [result[mean][measure] for measure in MEASURES for mean in ("micro", "macro")]
    rows = [[measure, *_pair(means[2 * n]), *_pair(means[2 * n + 1])] for n, measure in enumerate(MEASURES)]
    return _table(["measure", "micro", "by chance", "macro", "by chance"], rows)


def _classes(classes: Iterable[dict[str, Any]]) -> str:
    shown = ("P@1", "P@5", "P@10", "recall@10", "mAP")
    header = ["label", "images", "queries", *(name for measure in shown for name in (measure, "by chance"))]
    rows = [
        [row["label"], row["images"], row["queries"], *(cell for name in shown for cell in _pair(row[name]))]
        for row in classes
    ]
    return _table(header, rows)


def _strata(field: str, strata: Iterable[dict[str, Any]]) -> list[str]:
    header = [
        "value",
        "queries",
        "P@1 micro",
        "by chance",
        "P@1 macro",
        "by chance",
        "mAP macro",
        "by chance",
    ]
    shown = (("micro", "P@1"), ("macro", "P@1"), ("macro", "mAP"))
    rows = [
        [
            "(none)" if row["value"] is None else row["value"],
            row["queries"],
            *(cell for mean, measure in shown for cell in _pair(row[mean][measure])),
        ]
        for row in strata
    ]
    return [f"## By {_text(field)}", _table(header, rows)]


def _confusion(result: dict[str, Any]) -> str:
    """All of it as a table where it is small, else the commonest mistakes."""
    counts = {(row["label"], row["nearest"]): row["queries"] for row in result["confusion"]}
    labels = sorted({label for pair in counts for label in pair})
    if len(labels) <= _MOST_CLASSES_ACROSS:
        rows = [[label, *(counts.get((label, other), 0) for other in labels)] for label in labels]
        return _table(["label ↓ taken for →", *labels], rows)
    mistakes = sorted((pair for pair in counts if pair[0] != pair[1]), key=lambda pair: (-counts[pair], pair))
    rows = [[*pair, counts[pair]] for pair in mistakes[:_MOST_CONFUSIONS]]
    words = f"The {len(rows)} commonest mistakes of {len(mistakes):,}; evaluation.json holds all."
    return f"{words}\n\n{_table(['label', 'taken for', 'queries'], rows)}"


def _pair(figure: dict[str, float]) -> tuple[str, str]:
    return f"**{figure['value']:.3f}**", f"{figure['chance']:.3f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [header, ["---", *("---:" for _ in header[1:])], *rows]
    return "\n".join("| " + " | ".join(map(_text, line)) + " |" for line in lines)


def _text(cell: Any) -> str:
    """A cell that breaks no table."""
    return f"{cell:,}" if isinstance(cell, int) else " ".join(str(cell).split()).replace("|", "\\|")
