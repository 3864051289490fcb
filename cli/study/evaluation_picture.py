"""An evaluation as a picture: each label's P@1 against chance, and which label is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cli.study.values import shortened

_MOST_LABELS = 60  # more are not readable; the commonest are shown
_MOST_NUMBERED = 14  # with more, the cells are too small for numbers
_FEW_LABELS = 7  # of fewer, the bars would be as thick as beams
_LONGEST_NAME = 28
_BARS = 5.2  # inches of the left half
_INK, _SOFT, _BAR, _CHANCE = "#1c1b19", "#6f6b64", "#3b6ea5", "#d9480f"


def draw(result: dict[str, Any], path: Path) -> None:
    """Write the PNG."""
    classes = sorted(result["classes"], key=lambda row: (-row["images"], row["label"]))[:_MOST_LABELS]
    side = max(4.4, 0.17 * len(classes) + 1.6)  # inches of the heat map
    figure = Figure(
        figsize=(_BARS + side + 1.6, side + 1.3), dpi=140, layout="constrained", facecolor="white"
    )
    bars, heat = figure.subplots(1, 2, width_ratios=(_BARS, side + 1.6))
    _draw_bars(bars, classes)
    _draw_heat(heat, result, [row["label"] for row in classes])
    figure.suptitle(_title(result, len(classes)), fontsize=11, color=_INK, ha="left", x=0.01, linespacing=1.5)
    # Tight, for long names do not fit into what the layout leaves below the heat map.
    figure.savefig(path, bbox_inches="tight", pad_inches=0.2, metadata={"Software": None})


def _title(result: dict[str, Any], shown: int) -> str:
    group = f", outside the same {result['group']}" if result["group"] else ""
    some = (
        ""
        if shown == len(result["classes"])
        else f", the {shown} commonest labels of {len(result['classes'])}"
    )
    macro, micro = result["macro"], result["micro"]
    return _plain(
        f"{result['collection']}: has the nearest image the same {result['label']}{group}? "
        f"{result['queries']:,} queries{some}"
    ) + (
        f"\nP@1 macro {macro['P@1']['value']:.3f} (chance {macro['P@1']['chance']:.3f}), "
        f"micro {micro['P@1']['value']:.3f} ({micro['P@1']['chance']:.3f});  "
        f"mAP macro {macro['mAP']['value']:.3f} ({macro['mAP']['chance']:.3f})"
    )


def _draw_bars(axes: Axes, classes: Sequence[dict[str, Any]]) -> None:
    places = np.arange(len(classes))
    values = [row["P@1"]["value"] for row in classes]
    chances = [row["P@1"]["chance"] for row in classes]
    thickness = 0.72 * min(1, len(classes) / _FEW_LABELS)
    axes.barh(places, values, thickness, color=_BAR, label="P@1")
    axes.scatter(chances, places, marker="|", s=90, linewidths=2, color=_CHANCE, label="by chance", zorder=3)
    for place, value in enumerate(values):
        axes.text(
            max(value, chances[place]) + 0.02, place, f"{value:.2f}", va="center", fontsize=7, color=_SOFT
        )
    names = [f"{_name(row['label'])}  ({row['queries']:,})" for row in classes]
    axes.set_yticks(places, names, fontsize=8)
    axes.set(xlim=(0, 1.09), ylim=(len(classes) - 0.5, -0.5))
    axes.set_title("P@1 by label (queries)", fontsize=9, loc="left", color=_INK)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        loc="upper right",
        bbox_to_anchor=(1, -0.8 / (0.17 * len(classes) + 8)),
        ncols=2,
        fontsize=8,
        frameon=False,
    )


def _draw_heat(axes: Axes, result: dict[str, Any], labels: Sequence[str]) -> None:
    counts = _counts(result, labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares[:, : len(labels)], cmap="Blues", vmin=0, vmax=1, aspect="equal")
    names = [_name(label) for label in labels]
    axes.set_xticks(range(len(labels)), names, rotation=90, fontsize=7)
    axes.set_yticks(range(len(labels)), names, fontsize=7)
    axes.set_title("Taken for, by the majority of the 5 nearest (share of each row)", fontsize=9, loc="left")
    axes.set_ylabel("label", fontsize=8, color=_SOFT)
    axes.set_anchor("N")  # its rows begin where the bars do
    if len(labels) <= _MOST_NUMBERED:
        for row, column in np.argwhere(counts[:, : len(labels)] > 0).tolist():
            colour = "white" if shares[row, column] > 0.55 else _INK
            axes.text(
                column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=7, color=colour
            )
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.7, aspect=30, panchor=False)
    bar.ax.tick_params(labelsize=7)


def _counts(result: dict[str, Any], labels: Sequence[str]) -> NDArray[np.int64]:
    """Queries [label, nearest]; the last column counts those taken for a label that is not shown."""
    places = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels) + 1), np.int64)
    for row in result["confusion"]:
        if row["label"] in places:
            counts[places[row["label"]], places.get(row["nearest"], -1)] += row["queries"]
    return counts


def _name(label: str) -> str:
    return _plain(shortened(label, _LONGEST_NAME))


def _plain(words: str) -> str:
    """A dollar sign is a dollar sign, and no formula."""
    return words.replace("$", r"\$")
