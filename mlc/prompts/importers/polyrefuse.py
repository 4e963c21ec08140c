"""PolyRefuse (arXiv 2505.17306): one JSON file per language, split, and harmful or harmless.

In the test split, every file but the English one holds the English ``instruction`` and ``instruction_translated``:
requests are matched by ``instruction``. In train and val there is no English file, ``instruction`` is the translated
text, and nothing but the position says what belongs together: requests are matched by position, where that holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlc.errors import MlcError
from mlc.prompts.importers.drafts import UNSPECIFIED, DataSet, Draft, LeftOut
from mlc.prompts.importers.positions import by_position
from mlc.prompts.importers.records import Record, Source, read_json
from mlc.prompts.language_names import normalise
from mlc.prompts.schema import Intent, Provenance
from mlc.text import quoted_name

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
TEXT, TRANSLATED = "instruction", "instruction_translated"
Files = dict[str, tuple[Path, list[Record]]]  # by language, as the files' names have it


def is_polyrefuse(fields: Mapping[str, Any]) -> bool:
    """Whether these are the fields of one of its records, or the names of its files."""
    named = any(re.fullmatch(r"harm(ful|less)_(train|val|test)_translated_[A-Za-z-]+\.json", name) for name in fields)
    return named or {TEXT, TRANSLATED} <= fields.keys() or {TEXT, "category"} == fields.keys()


def polyrefuse(source: Source) -> Iterator[Draft | LeftOut]:
    """The folder's ``harmful_test_translated_de.json`` and so on (``test`` is the split), with their back-translations.

    As published, a language may lack one of the two kinds, the English file may lack ``instruction_translated``, and a
    few requests stand twice, from different collections.

    Raises:
        MlcError: no file of the split, a malformed one, files that are laid out differently, none in the source
            language where there is no English one, or files that position cannot match.
    """
    if not source.path.is_dir():
        raise MlcError(f"{source.path} is no folder: name the one that holds PolyRefuse's JSON files")
    kinds = {kind: _read(_files(source.path, f"{kind}_{source.split}_translated")) for kind in KINDS}
    if not any(kinds.values()):
        raise MlcError(
            f"{source.path} holds no harmful_{source.split}_translated_*.json or harmless_{source.split}_translated_*."
            "json: check the folder and --split"
        )
    translations = {path: _translated(records) for files in kinds.values() for name, (path, records) in files.items()
                    if name != "en"}  # fmt: skip
    tied, untied = ([path for path, found in translations.items() if found is kind] for kind in (True, False))
    if tied and untied:
        raise MlcError(
            f"{untied[0]} has no {TRANSLATED!r}, as {tied[0].name} has: its requests cannot be matched with the others'"
        )
    if untied:
        yield from _untied(source, kinds)
    else:
        for kind, files in kinds.items():
            yield from _tied(source, files, f"{kind}_{source.split}", KINDS[kind])


def _files(folder: Path, stem: str) -> dict[str, Path]:
    """Language -> file, English first: its order is that of the rows."""
    names = {path: re.fullmatch(rf"{re.escape(stem)}_([A-Za-z-]+)\.json", path.name) for path in folder.glob("*.json")}
    files = {match[1]: path for path, match in names.items() if match}
    return dict(sorted(files.items(), key=lambda item: (item[0] != "en", item[0])))


def _read(files: dict[str, Path]) -> Files:
    read = {language: (path, list(read_json(path))) for language, path in files.items()}
    for _, records in read.values():
        for record in records:
            record.need(TEXT)
    return read


def _translated(records: list[Record]) -> bool:
    return any(TRANSLATED in record.fields for record in records)


def _untied(source: Source, kinds: Mapping[str, Files]) -> Iterator[Draft | LeftOut]:
    """Where ``instruction`` is the text itself: what stands at the same place as in the source language's file."""
    texts = {language: [r.text(TEXT) or "" for r in records[:20]] for files in kinds.values()
             for language, (_, records) in files.items()}  # fmt: skip
    sources = [language for language in texts if normalise(language, texts[language]) == source.language]
    if not sources:
        raise MlcError(
            f"{source.path}, split {source.split}: no file is in {source.language}, and {TEXT!r} holds the text of "
            f"each file's own language. Name the one that is to be the source language: --source-language "
            f"{' or '.join(quoted_name(language) for language in sorted(texts))}"
        )
    for kind, files in kinds.items():
        if sources[0] in files:
            yield from by_position(files, sources[0], TEXT, KINDS[kind])
            continue
        for _, records in files.values():
            reason = f"no {kind} file in the source language, {source.language}"
            yield from (LeftOut(record.where, reason) for record in records)


def _tied(source: Source, files: Files, stem: str, intent: Intent) -> Iterator[Draft | LeftOut]:
    requests: dict[str, dict[str, Record]] = {}
    repeated: dict[tuple[str, int], str] = {}
    for language, (_, records_) in files.items():
        times: dict[str, int] = {}
        for record in records_:
            request = record.text(TEXT)
            if request is None:
                yield LeftOut(record.where, f"no {TEXT}")
                continue
            times[request] = times.get(request, 0) + 1
            if times[request] == 1:
                requests.setdefault(request, {})[language] = record
            else:
                repeated.setdefault((request, times[request]), record.where)
    _share_requests(files, requests)
    for where in repeated.values():
        yield LeftOut(where, "another record of the same request was taken")
    # They are in English, and rows keep those in the source language.
    back = _back_translations(source.path / f"{stem}_back_translated", stem) if source.language == "en" else {}
    for request, records in requests.items():
        first = next(iter(records.values()))
        texts, places = {"en": request}, {"en": first.place(TEXT)}
        for language, record in records.items():
            text = record.text(TRANSLATED)
            if text and language != "en":
                texts[language], places[language] = text, record.place(TRANSLATED)
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
            places=places,
        )


def _share_requests(files: Files, requests: Mapping[str, Mapping[str, Record]]) -> None:
    """Refuses a file most of whose requests the first one lacks: it belongs to another set or split."""
    for language, (path, _) in files.items():
        has = [group for group in requests.values() if language in group]
        shared = sum(next(iter(files)) in group for group in has)
        if 2 * shared < len(has):
            first = next(iter(files.values()))[0].name
            raise MlcError(
                f"{path}: only {shared} of its {len(has)} requests ({TEXT!r}, by which files are matched) are in "
                f"{first}: is it of another split? Take it out of the folder, or get it again"
            )


def _back_translations(folder: Path, stem: str) -> dict[tuple[str, str], str]:
    """(language, translation) -> its translation back to English, where the folder is there."""
    back: dict[tuple[str, str], str] = {}
    for language, path in _files(folder, f"{stem}_back_translated").items():
        for record in read_json(path):
            translation, again = record.text(TRANSLATED), record.text("instruction_back_translated")
            if translation and again:
                back[language, translation] = again
    return back
