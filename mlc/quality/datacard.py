"""The datacard: what the prompt sets hold and how good they are, as a Hugging Face dataset card.

The same data and settings give the same card, byte by byte. Everything in it that comes from data is escaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import langcodes
from huggingface_hub import DatasetCardData
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mlc.files import sha256_json, write_text
from mlc.licences import UNKNOWN
from mlc.prompts.schema import PromptRow
from mlc.text import markdown, percent, visible

if TYPE_CHECKING:
    from mlc.quality.decisions import Fix, Release
    from mlc.settings import Languages

_TITLE = "Prompt sets for multilingual consistency"
_MOST = 200  # lines of a table
_INTENTS = ("harmful", "benign")
_NOT_NAMED = "not named"
_ROWS = "the row's"  # licence, of what a person or the data set itself has written
_SIZES = [(10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M")]
# What the hub calls the licences that data sets have; it refuses a card with another word.
_LICENCES = {
    *("afl-3.0", "agpl-3.0", "apache-2.0", "artistic-2.0", "bsd", "bsd-2-clause", "bsd-3-clause", "bsl-1.0", "c-uda"),
    *("cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-permissive-1.0", "cdla-permissive-2.0"),
    *("cdla-sharing-1.0", "ecl-2.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2", "gfdl", "gpl", "gpl-2.0"),
    *("gpl-3.0", "isc", "lgpl", "lgpl-2.1", "lgpl-3.0", "llama2", "llama3", "llama3.1", "mit", "mpl-2.0", "ms-pl"),
    *("odbl", "odc-by", "ofl-1.1", "openrail", "osl-3.0", "pddl", "postgresql", "unlicense", "wtfpl", "zlib"),
}
_HUB_NAME = {"odbl-1.0": "odbl", "odc-by-1.0": "odc-by", "pddl-1.0": "pddl", "gfdl-1.3": "gfdl"}


class Contents:
    """What the sets hold, counted row by row."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.intents: Counter[tuple[str, str]] = Counter()
        self.categories: Counter[tuple[str, str]] = Counter()
        self.sources: Counter[tuple[str, str, str, str | None]] = Counter()
        self.translators: Counter[tuple[str, str | None, str | None, str]] = Counter()

    def add(self, name: str, row: PromptRow) -> None:
        """Counts a row of the set ``name``."""
        self.rows[name] += 1
        self.intents[name, row.intent] += 1
        self.categories[row.category, row.intent] += 1
        licence, revision = (row.origin.licence, row.origin.revision) if row.origin else (None, None)
        self.sources[name, row.source, licence or UNKNOWN, revision] += 1
        for tag in row.prompts:
            by = row.provenance.get(tag)
            own = machine.licence or UNKNOWN if (machine := row.machine(tag)) else _ROWS
            self.translators[tag, *((by.translator, by.version) if by else (None, None)), own] += 1


def _metadata(contents: Contents, languages: Languages) -> str:
    """The card's YAML block, in the words of the hub."""
    total = sum(contents.rows.values())
    licences = {licence.lower() for _, _, licence, _ in contents.sources}
    names = {_HUB_NAME.get(licence, licence) for licence in licences}
    known = sorted({name if name in {*_LICENCES, UNKNOWN} else "other" for name in names})
    data = DatasetCardData(
        language=list(dict.fromkeys(langcodes.Language.get(tag).language for tag in languages.all)),
        language_details=list(languages.all),
        license=known[0] if len(known) == 1 else known,
        size_categories=[next((word for end, word in _SIZES if total < end), "n>10M")],
        pretty_name=_TITLE,
        source_datasets=sorted({visible(source) for _, source, _, _ in contents.sources}),
    )
    return str(data.to_yaml())


def _cells(counted: Mapping[tuple[Any, ...], int]) -> list[list[Any]]:
    """The lines of a table: the words, then how many; the most frequent first, and then by name."""
    ordered = sorted(counted.items(), key=lambda item: (-item[1], [cell or "" for cell in item[0]]))
    return [[*(cell or _NOT_NAMED for cell in cells), number] for cells, number in ordered]


def _shown(value: object) -> str:
    return value if isinstance(value, Markup) else markdown(str(value))


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Markup:
    lines = [head, ["---"] * len(head), *([_shown(cell) for cell in row] for row in rows[:_MOST])]
    more = f"\n\nand {len(rows) - _MOST} more." if len(rows) > _MOST else ""
    return Markup("\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines) + more)


def write(
    path: Path,
    contents: Contents,
    metrics: Mapping[str, Any],
    failures: Sequence[str],
    warnings: Sequence[str],
    releases: Sequence[Release],
    stale: Sequence[Release],
    fixes: Sequence[Fix],
    files: Mapping[str, str],
    languages: Languages,
    minimum_languages: int,
) -> None:
    """Writes the card.

    Args:
        path: of the card.
        contents: of all rows, as they were read.
        metrics: of ``metrics.json``.
        failures: the expectations that do not hold, in words.
        releases: all of ``releases.jsonl``.
        stale: those of them that hold no longer.
        fixes: all of ``fixes.jsonl``.
        files: name in the data folder -> sha256.
        languages: of the settings.
        minimum_languages: that a training row needs.
    """
    of = {(name, tag): metrics[name][tag] for name in contents.rows for tag in metrics[name]}
    counts = ("variants", "clean", "quarantined", "dropped_by_rule", "released", "missing")
    rows = ("read", "clean", "dropped_by_rule", "kept_incomplete")
    gone = set(stale)
    page = Environment(
        loader=PackageLoader("mlc.quality", "."),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        finalize=_shown,
    ).get_template("datacard.md.jinja")
    text = page.render(
        metadata=Markup(_metadata(contents, languages)),
        most=_MOST,
        table=_table,
        title=_TITLE,
        metrics=metrics,
        failures=failures,
        warnings=warnings,
        languages=languages,
        minimum_languages=minimum_languages,
        sets=[
            [name, *(metrics["rows"][name][row] for row in rows), *(contents.intents[name, i] for i in _INTENTS)]
            for name in contents.rows
        ],
        variants=[[*key, *(one[count] for count in counts), percent(one["coverage"])] for key, one in of.items()],
        not_named=[[name, *cells] for name in contents.rows for cells in _cells(_one(metrics["dropped"][name]))],
        quarantined=_cells({(check, *key): n for key, one in of.items() for check, n in one["reasons"].items()}),
        replies=[
            [
                name,
                part,
                tag,
                one["texts"],
                one["quarantined"],
                ", ".join(f"{w} {n}" for w, n in one["reasons"].items()),
            ]
            for name, parts in metrics["replies"].items()
            for part, of_part in parts.items()
            for tag, one in of_part.items()
        ],
        replies_unchecked=[
            [name, part, tag, ", ".join(one["unchecked"])]
            for name, parts in metrics["replies"].items()
            for part, of_part in parts.items()
            for tag, one in of_part.items()
            if one["unchecked"]
        ],
        unchecked=[[*key, ", ".join(one["unchecked"])] for key, one in of.items() if one["unchecked"]],
        releases=[
            [*r.key, ", ".join(r.checks), r.who, r.why, f"{r.when:%Y-%m-%d}", "stale" if r in gone else "yes"]
            for r in releases
        ],
        fixes=[[*f.key, f.who, f.why, f"{f.when:%Y-%m-%d}"] for f in fixes],
        sources=_cells(contents.sources),
        translators=_cells(contents.translators),
        categories=_cells(contents.categories),
        data_hash=sha256_json(dict(files)),
        files=[[name, digest] for name, digest in files.items()],
    )
    write_text(path, text)


def _one(counted: Mapping[str, int]) -> dict[tuple[str], int]:
    return {(word,): number for word, number in counted.items()}
