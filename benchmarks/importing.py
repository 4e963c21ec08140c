"""How well do importers see that a file is in another language, or in another order? On PolyRefuse and MultiJail.

    python benchmarks/importing.py --polyrefuse FOLDER --multijail FILE.csv

``called en``: the share of a language's texts in train and val that are surely not English. ``taken for another``: how
many right texts, of all splits and of MultiJail, are surely in another language. ``surely it``: the share of right
texts that both identifiers are sure of. ``lengths``: the rank correlation of the lengths of texts at the same position
with those of the other languages' files, lowest and highest, in train and val. Texts are never printed.
"""

# ruff: noqa: E402  (imports from the checkout)
from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from scipy.stats import spearmanr

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from mlc.prompts.importers.doubt import surely_in, surely_not
from mlc.prompts.importers.records import read_csv
from mlc.text import percent, table


def texts_of(folder: Path, kind: str, split: str, language: str) -> list[str]:
    """The texts of one file, in its language; none where there is no such file."""
    path = folder / f"{kind}_{split}_translated_{language}.json"
    records = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return [record.get("instruction_translated") or record["instruction"] for record in records]


def main(
    polyrefuse: Annotated[Path, typer.Option(help="folder with all three splits")],
    multijail: Annotated[Path, typer.Option(help="its CSV")],
) -> None:
    kinds = ("harmful", "harmless")
    languages = sorted({path.stem.rsplit("_", 1)[1] for path in polyrefuse.glob("*_translated_*.json")})
    columns: dict[str, list[str]] = {}
    for record in read_csv(multijail):
        for name, text in record.fields.items():
            if name not in ("id", "source", "tags"):
                columns.setdefault(name, []).append(text)
    rows = [["", "called en", "taken for another", "surely it", "lengths, harmful", "lengths, harmless"]]
    for language in dict.fromkeys((*languages, *columns)):
        untied = [
            t for kind in kinds for split in ("train", "val") for t in texts_of(polyrefuse, kind, split, language)
        ]
        tied = [t for kind in kinds for t in texts_of(polyrefuse, kind, "test", language)]
        right = untied + tied + columns.get(language, [])
        wrong = sum(surely_not(text, "en") is not None for text in untied)
        row = [language, percent(wrong / len(untied)) if untied and language != "en" else ""]
        row.append(f"{sum(surely_not(text, language) is not None for text in right)} of {len(right)}")
        row.append(percent(sum(surely_in(text, language) for text in right) / len(right)))
        for kind in kinds:
            found = [
                float(spearmanr(*([len(text) for text in side] for side in (ours, theirs))).statistic)
                for split in ("train", "val")
                if (ours := texts_of(polyrefuse, kind, split, language))
                for other in languages
                if other != language and (theirs := texts_of(polyrefuse, kind, split, other))
            ]
            row.append(f"{min(found):.2f} to {max(found):.2f}" if found else "")
        rows.append(row)
    print(table(rows))


if __name__ == "__main__":
    typer.run(main)
