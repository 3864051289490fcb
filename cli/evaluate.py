"""`lookalike evaluate`: how often the nearest images of a collection have the same label."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from cli.client import Client
from cli.study.evaluation import Subject, evaluation
from cli.study.evaluation_page import page
from cli.study.evaluation_picture import draw
from cli.study.gathering import gather
from cli.study.judging import MEASURES
from cli.study.options import out_folder, some_images
from cli.study.values import value_of
from cli.tables import print_json, print_table
from shared.settings import Settings

_DESCRIBED = ("model", "revision", "preprocessing", "dimension")


@click.command()
@click.argument("collection")
@click.option("--label", required=True, help="The payload field that says what an image shows.")
@click.option(
    "--group", help="A field whose images never count for each other, such as a patient or a product."
)
@click.option("--by", help="Fields, comma-separated: the figures also for each of their values.")
@some_images
@click.option(
    "--sample", type=click.IntRange(1), help="Ask with so many images, drawn at random.  [default: all]"
)
@out_folder("evaluation.json, evaluation.md and evaluation.png")
@click.option("--json", "as_json", is_flag=True, help="Print what evaluation.json holds.")
@click.pass_obj
def evaluate(
    settings: Settings,
    collection: str,
    label: str,
    group: str | None,
    by: str | None,
    condition: str | None,
    sample: int | None,
    out: Path,
    as_json: bool,
) -> None:
    """Measure how often the nearest images have the same label.

    Every image with a label is a query against all others outside its group: precision and recall of the first 1, 5
    and 10, and mean average precision, for all images (micro) and for all labels alike (macro), each beside what a
    random order would score. The same collection gives the same figures.
    """
    fields = [field.strip() for field in (by or "").split(",") if field.strip()]
    out.mkdir(parents=True, exist_ok=True)

    def subject(image: dict[str, Any]) -> Subject | None:
        name = value_of(image, label)
        if name is None:
            return None
        strata = tuple(value_of(image, field) for field in fields)
        return Subject(name, value_of(image, group) if group else None, strata)

    images = gather(Client(settings), collection, subject, condition)
    result = {
        "collection": collection,
        **{field: images.about.get(field) for field in _DESCRIBED},
        "label": label,
        "group": group,
        "filter": condition,
        "sample": sample,
        **evaluation(images, fields, sample),
    }
    _write(result, out)
    print_json(result) if as_json else _show(result, out)


def _write(result: dict[str, Any], out: Path) -> None:
    text = json.dumps(result, ensure_ascii=False, indent=1)
    (out / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    (out / "evaluation.md").write_text(page(result), encoding="utf-8")
    draw(result, out / "evaluation.png")


def _show(result: dict[str, Any], out: Path) -> None:
    print_table(
        ("measure", "micro", "chance", "macro", "chance"),
        (
            [
                measure,
                *(result[mean][measure][key] for mean in ("micro", "macro") for key in ("value", "chance")),
            ]
            for measure in MEASURES
        ),
    )
    left_out = result["left_out"]
    click.echo(
        f"{result['queries']:,} queries against {result['images']:,} images of {len(result['classes']):,} labels; "
        f"left out: {left_out['without_label']:,} without the label, "
        f"{left_out['without_relevant_candidate']:,} with no other of their label."
    )
    click.echo(f"Written to {out}: evaluation.json, evaluation.md, evaluation.png", err=True)
