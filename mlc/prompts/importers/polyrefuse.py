"""PolyRefuse (arXiv 2505.17306): one JSON file per language, split, and harmful or harmless."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mlc.errors import MlcError
from mlc.prompts.importers.drafts import UNSPECIFIED, DataSet, Draft, LeftOut
from mlc.prompts.importers.records import Record, Source, read_json
from mlc.prompts.schema import Intent, Provenance

# The paper says that the English requests were translated by machine, its files not by which.
POLYREFUSE = DataSet(
    "PolyRefuse",
    "Apache-2.0",
    {
        "en": Provenance(translator="PolyRefuse"),
        "*": Provenance(translator="machine translation by PolyRefuse", licence="Apache-2.0"),
    },
    split="test",
)
KINDS: dict[str, Intent] = {"harmful": "harmful", "harmless": "benign"}


def polyrefuse(source: Source) -> Iterator[Draft | LeftOut]:
    """The folder's ``harmful_test_translated_de.json`` and so on (``test`` is the split), with their back-translations.

    Records of different files belong together by their English ``instruction``, not by position. As published, a
    language may lack one of the two kinds, the English file may lack ``instruction_translated``, and a few requests
    stand twice, from different collections.
    """
    if not source.path.is_dir():
        raise MlcError(f"{source.path} is no folder: name the one that holds PolyRefuse's JSON files")
    any_files = False
    for kind, intent in KINDS.items():
        files = _files(source.path, f"{kind}_{source.split}_translated")
        any_files = any_files or bool(files)
        yield from _drafts(source.path, files, f"{kind}_{source.split}", intent)
    if not any_files:
        raise MlcError(
            f"{source.path} holds no harmful_{source.split}_translated_*.json or harmless_{source.split}_translated_*."
            "json: check the folder and --split"
        )


def _files(folder: Path, stem: str) -> dict[str, Path]:
    """Language -> file, English first: its order is that of the rows."""
    names = {path: re.fullmatch(rf"{re.escape(stem)}_([A-Za-z-]+)\.json", path.name) for path in folder.glob("*.json")}
    files = {match[1]: path for path, match in names.items() if match}
    return dict(sorted(files.items(), key=lambda item: (item[0] != "en", item[0])))


def _drafts(folder: Path, files: dict[str, Path], stem: str, intent: Intent) -> Iterator[Draft | LeftOut]:
    requests: dict[str, dict[str, Record]] = {}
    repeated: dict[tuple[str, int], str] = {}
    for language, path in files.items():
        times: dict[str, int] = {}
        for record in read_json(path):
            record.need("instruction")
            request = record.text("instruction")
            if request is None:
                yield LeftOut(record.where, "no instruction")
                continue
            times[request] = times.get(request, 0) + 1
            if times[request] == 1:
                requests.setdefault(request, {})[language] = record
            else:
                repeated.setdefault((request, times[request]), record.where)
    for where in repeated.values():
        yield LeftOut(where, "another record of the same request was taken")
    back = _back_translations(folder / f"{stem}_back_translated", f"{stem}_back_translated")
    for request, records in requests.items():
        first = next(iter(records.values()))
        texts = {"en": request}
        for language, record in records.items():
            text = record.text("instruction_translated")
            if text and language != "en":
                texts[language] = text
        yield Draft(
            where=first.where,
            record={language: record.fields for language, record in records.items()},
            key=None,
            intent=intent,
            category=first.text("category") or UNSPECIFIED,
            texts=texts,
            back_translations={
                language: back[language, text] for language, text in texts.items() if (language, text) in back
            },
        )


def _back_translations(folder: Path, stem: str) -> dict[tuple[str, str], str]:
    """(language, translation) -> its translation back to English, where the folder is there."""
    back: dict[tuple[str, str], str] = {}
    for language, path in _files(folder, stem).items():
        for record in read_json(path):
            translation, again = record.text("instruction_translated"), record.text("instruction_back_translated")
            if translation and again:
                back[language, translation] = again
    return back
