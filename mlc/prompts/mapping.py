"""Mapping files: how to import a data set that has no layout of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mlc.errors import MlcError
from mlc.languages.tags import LanguageTag
from mlc.prompts.importers.drafts import UNSPECIFIED, DataSet, Draft, LeftOut
from mlc.prompts.importers.records import Format, Record, Source, read
from mlc.prompts.schema import Intent, Provenance
from mlc.settings import Section
from mlc.text import quoted, quoted_name


class Labels(Section):
    """The intent by a column's label; a record with another label is left out."""

    column: str = Field(min_length=1)
    values: dict[str, Intent] = Field(min_length=1, description="label -> harmful or benign")


class Column(Section):
    column: str = Field(min_length=1)


class PerLanguage(Section):
    """A record holds one language's text; records with the same id are one request."""

    language: str = Field(min_length=1, description="column with the language: a tag, or its English name")
    text: str = Field(min_length=1, description="column with the text")


class Mapping(Section):
    """Which column of a data set is what."""

    format: Format
    source: str = Field(min_length=1, description="name of the data set, kept in every row")
    licence: str | None = Field(default=None, description="SPDX identifier")
    revision: str | None = Field(default=None, description="commit or release; for the hub 40 hexadecimal digits")
    config: str | None = Field(default=None, description="hub: configuration of the data set")
    split: str | None = Field(default=None, description="hub: split")
    id: str | None = Field(default=None, description="column; without one, ids are hashes of the request")
    intent: Intent | Labels
    category: str | Column = UNSPECIFIED
    prompts: PerLanguage | dict[LanguageTag, str] = Field(description="tag -> column, or one record per language")
    chosen: str | None = Field(default=None, description="column, source language")
    rejected: str | None = Field(default=None, description="column, source language")
    references: dict[LanguageTag, str] = Field(default_factory=dict, description="tag -> column")
    provenance: dict[LanguageTag, Provenance] = Field(
        default_factory=dict, description="who wrote a language; the data set's name stands for who is not known"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.chosen is None) != (self.rejected is None):
            raise ValueError("'chosen' and 'rejected' come together: give both or neither")
        if isinstance(self.prompts, PerLanguage) and self.id is None:
            raise ValueError("one record per language needs 'id', which says what belongs together")
        if isinstance(self.prompts, PerLanguage) and self.references:
            raise ValueError("'references' need 'prompts' as tag -> column")
        if not self.prompts:
            raise ValueError("'prompts' names no column")
        if self.format != "hub" and (self.config or self.split):
            raise ValueError("'config' and 'split' are of hub sets")
        return self

    @property
    def data_set(self) -> DataSet:
        return DataSet(self.source, self.licence, self.provenance)

    @property
    def needed(self) -> list[str]:
        """Columns that every record has to have. Without one of a tag's column, a record lacks that language."""
        columns = [self.id, self.chosen, self.rejected]
        columns += [x.column for x in (self.intent, self.category) if isinstance(x, (Labels, Column))]
        columns += [self.prompts.language, self.prompts.text] if isinstance(self.prompts, PerLanguage) else []
        return [column for column in columns if column is not None]

    def drafts(self, source: Source) -> Iterator[Draft | LeftOut]:
        """Reads a source by this mapping.

        Raises:
            MlcError: the source is malformed, or lacks a column named here.
        """
        records = read(source, self.format)
        return self._long(records) if isinstance(self.prompts, PerLanguage) else self._wide(records, self.prompts)

    def _wide(self, records: Iterator[Record], columns: dict[str, str]) -> Iterator[Draft | LeftOut]:
        wanted, has = {*columns.values(), *self.references.values()}, set[str]()
        for record in records:
            record.need(*self.needed)
            has |= record.fields.keys()
            texts = {tag: text for tag, column in columns.items() if (text := record.text(column))}
            yield self._draft(record, record.fields, texts, {tag: record.place(columns[tag]) for tag in texts})
        if has and wanted - has:
            raise MlcError(
                f"no record has the column {', '.join(quoted_name(c) for c in sorted(wanted - has))}; "
                f"there are {', '.join(quoted_name(c) for c in sorted(has))}"
            )

    def _long(self, records: Iterator[Record]) -> Iterator[Draft | LeftOut]:
        assert isinstance(self.prompts, PerLanguage) and self.id is not None
        groups: dict[str, dict[str, Record]] = {}
        for record in records:
            record.need(*self.needed)
            key, language = record.label(self.id), record.text(self.prompts.language)
            if key is None or language is None or record.text(self.prompts.text) is None:
                yield LeftOut(record.where, "no id, language or text")
            elif language not in groups.setdefault(key, {}):
                groups[key][language] = record
            elif groups[key][language].fields == record.fields:
                yield LeftOut(record.where, "repeats an earlier record")
            else:
                raise MlcError(
                    f"{record.where}: id {quoted_name(key)} is also that of {groups[key][language].where} in the same "
                    "language, with different content: mend the source"
                )
        for group in groups.values():
            texts = {language: record.text(self.prompts.text) or "" for language, record in group.items()}
            first = next(iter(group.values()))
            label = self.intent.column if isinstance(self.intent, Labels) else None
            if label and len({record.label(label) for record in group.values()}) > 1:
                yield LeftOut(first.where, "its languages have different labels")
            else:
                fields = {language: record.fields for language, record in group.items()}
                text = first.place(self.prompts.text)
                yield self._draft(first, fields, texts, {name: f"{text}, language {quoted(name)}" for name in texts})

    def _draft(self, record: Record, whole: object, texts: dict[str, str], places: dict[str, str]) -> Draft | LeftOut:
        intent = self.intent
        if isinstance(intent, Labels):
            label = record.label(intent.column) or ""
            if label not in intent.values:
                return LeftOut(record.where, f"{quoted_name(intent.column)} {quoted(label)} is no label of the mapping")
            intent = intent.values[label]
        chosen, rejected = (record.text(column) if column else None for column in (self.chosen, self.rejected))
        if self.chosen and not (chosen and rejected):
            return LeftOut(record.where, "a response is empty")
        key = record.label(self.id) if self.id else None
        if self.id and key is None:
            return LeftOut(record.where, "no id")
        category = self.category if isinstance(self.category, str) else record.label(self.category.column)
        references = {tag: text for tag, column in self.references.items() if (text := record.text(column))}
        replies = {"chosen": self.chosen, "rejected": self.rejected}
        replies |= {f"references {tag}": column for tag, column in self.references.items()}
        places |= {name: record.place(column) for name, column in replies.items() if column}
        category = category or UNSPECIFIED
        return Draft(record.where, whole, key, intent, category, texts, chosen, rejected, references, places=places)


def load_mapping(path: Path) -> Mapping:
    """Reads a mapping file.

    Raises:
        MlcError: it is missing, not YAML, or holds something that a mapping does not have, such as a date.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
        return Mapping.model_validate_json(json.dumps(content))
    except FileNotFoundError:
        raise MlcError(f"{path} does not exist") from None
    except (UnicodeDecodeError, YAMLError) as error:
        raise MlcError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        lines = (f"{path}, {'.'.join(map(str, e['loc'])) or 'mapping'}: {e['msg']}" for e in error.errors())
        raise MlcError("\n".join(lines)) from None
    except (TypeError, ValueError) as error:
        raise MlcError(f"{path} holds a value that no mapping has ({error}): put it in quotes") from None
