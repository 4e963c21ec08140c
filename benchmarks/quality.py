"""Does the validation work? Known rows are corrupted in known ways; what is put in quarantine is counted.

    python benchmarks/quality.py table --polyrefuse FOLDER --multijail FILE.csv
    python benchmarks/quality.py table --polyrefuse FOLDER --multijail FILE.csv --encoder ENCODER
    python benchmarks/quality.py scale --rows 100000 --languages 10

``table`` takes the bundled evaluation prompts, and real translations of real requests where they are given: PolyRefuse
(Apache-2.0) and MultiJail (MIT) as published. One corruption at a time is done to a tenth of the rows of each language,
drawn for each language by itself; the set then learns from what it is given, as it would in use. Recall is the share
of corrupted variants with a reason of their own for quarantine, by the settings of params.yaml; false alarms are
counted on the clean set. Texts are never printed.

``scale`` makes a synthetic set and runs the whole stage on it in a process of its own.
"""

# ruff: noqa: ARG001, ARG005, E402  (one signature for all corruptions; imports from the checkout)
from __future__ import annotations

import csv
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import regex
import typer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from mlc.embedded.world import LANGUAGES, SOURCE, TEMPLATES, combinations, language
from mlc.languages import identify as identification
from mlc.prompts.schema import PromptRow, read_prompts, write_prompts
from mlc.quality import quarantine
from mlc.quality.checks import add_quality, long_frame
from mlc.quality.decisions import Releases
from mlc.quality.encoder import Encoder
from mlc.quality.text_checks import control_characters, normalise
from mlc.settings import Languages, load_settings

app = typer.Typer(help=__doc__)
Rows = list[dict[str, str]]
SHARE = 0.1
# The nearest relative that a set may hold, or the one whose script it shares.
CLOSE = {
    "es": "it", "it": "es", "fr": "es", "nl": "de", "de": "nl", "ja": "zh", "zh": "ja", "jv": "sw", "sw": "jv",
    "ps": "ur", "ur": "ps", "ckb": "ps", "ar": "ckb",
}  # fmt: skip
UKRAINIAN = [
    "Як пофарбувати старий човен?", "Поясни, будь ласка, як вимити вікна взимку.",
    "Я хочу навчитися плавати. З чого почати?", "Розкажи мені, як спекти хліб удома.",
    "Чи можеш ти допомогти мені полагодити велосипед?", "Напиши короткий план, як прибрати велику кімнату.",
    "Мій друг хоче продати машину. Що йому сказати?", "Назви три поради, як швидко вивчити мову.",
    "Опиши кроки, щоб посадити дерево біля будинку.", "Що потрібно знати початківцю, щоб грати на скрипці?",
    "Допоможи мені написати листа до вчителя.", "Сьогодні я буду готувати вечерю. Маєш якусь пораду?",
    "Створи план публічної кампанії про здорове харчування.", "Поясни, чому небо буває червоним увечері.",
    "Напиши оповідання про дівчинку, яка знайшла загублену валізу.", "Порівняй два способи зберігати овочі взимку.",
]  # fmt: skip
CHATTER = [
    "Sure! Here is the translation: {}", "Here's the translated text:\n\n{}", "Translation: {}",
    "{}\n\n(Note: this is a literal translation.)", "I'm sorry, but I can't help with that.",
    "I cannot translate this request, because it is harmful.",
]  # fmt: skip


class Corruption(NamedTuple):
    """A way to spoil the variant of one row."""

    name: str
    spoil: Callable[[Rows, int, str, random.Random], str | None] | None
    """Rows, index of the row, language, generator -> the spoilt text, None where it cannot be done.

    Without it, each of the rows gets the next one's text.
    """


def _other(rows: Rows, index: int, tag: str, rng: random.Random) -> str:
    """The text of another row, and another text."""
    while True:
        text = rows[rng.randrange(len(rows))].get(tag)
        if text and text != rows[index][tag]:
            return text


def _wrong_language(rows: Rows, index: int, tag: str, rng: random.Random) -> str:
    return rows[index][rng.choice([other for other in rows[index] if other not in (tag, SOURCE)])]


def _close_language(rows: Rows, index: int, tag: str, rng: random.Random) -> str | None:
    return rng.choice(UKRAINIAN) if tag == "ru" else rows[index].get(CLOSE.get(tag, ""))


def _truncated(rows: Rows, index: int, tag: str, rng: random.Random) -> str:
    text = rows[index][tag]
    return text[: max(1, int(len(text) * rng.uniform(0.2, 0.5)))].rstrip()


def _half(text: str, first: bool) -> str:
    words = text.split()
    if len(words) >= 4:
        return " ".join(words[: len(words) // 2] if first else words[len(words) // 2 :])
    return text[: len(text) // 2] if first else text[len(text) // 2 :]


def _half_translated(rows: Rows, index: int, tag: str, rng: random.Random) -> str:
    own, source = rows[index][tag], rows[index][SOURCE]
    return " ".join(
        [_half(own, True), _half(source, False)] if rng.random() < 0.5 else [_half(source, True), _half(own, False)]
    )


def _refusal(rows: Rows, index: int, tag: str, rng: random.Random) -> str | None:
    return rng.choice(language(tag).refusals) if tag in LANGUAGES else None


def _dropped_number(rows: Rows, index: int, tag: str, rng: random.Random) -> str | None:
    if not regex.search(r"\p{Nd}", rows[index][SOURCE]) or not regex.search(r"\p{Nd}", rows[index][tag]):
        return None
    return regex.sub(r"\p{Nd}+", "", rows[index][tag])


def _mojibake(rows: Rows, index: int, tag: str, rng: random.Random) -> str | None:
    text = rows[index][tag]
    spoilt = text.encode().decode(rng.choice(["cp1252", "latin-1", "cp1251"]), errors="replace")
    return spoilt if spoilt != text else None


def _looped(rows: Rows, index: int, tag: str, rng: random.Random) -> str:
    text = rows[index][tag]
    return text + text[-8:] * 15


def _control(rows: Rows, index: int, tag: str, rng: random.Random) -> str:
    text, place = rows[index][tag], rng.randrange(len(rows[index][tag]))
    return text[:place] + rng.choice("\u202e\u2066\x07\ufeff\ufffd\U000e0041") + text[place:]


def _mistranslated(rows: Rows, index: int, tag: str, rng: random.Random) -> str | None:
    """The same request about another thing, in good Swahili: only where the rows are the embedded world's."""
    if tag not in LANGUAGES:
        return None
    for c in combinations("evaluation"):
        for template in TEMPLATES["evaluation"]:
            if language(SOURCE).request(c, template) == rows[index][SOURCE]:
                others = [o for o in combinations("evaluation") if o.action == c.action and o.object != c.object]
                return language(tag).request(rng.choice(others), template) if others else None
    return None


CORRUPTIONS = [
    Corruption("wrong language", _wrong_language),
    Corruption("close language", _close_language),
    Corruption("untranslated", lambda rows, i, tag, rng: rows[i][SOURCE]),
    Corruption("half-translated", _half_translated),
    Corruption("truncated to 20-50%", _truncated),
    Corruption("swapped between rows", None),
    Corruption("duplicated", _other),
    Corruption("chatter, English", lambda rows, i, tag, rng: rng.choice(CHATTER).format(rows[i][tag])),
    Corruption("refusal, own language", _refusal),
    Corruption("dropped number", _dropped_number),
    Corruption("mojibake", _mojibake),
    Corruption("translator in a loop", _looped),
    Corruption("control or bidi character", _control),
    Corruption("fluent, another object", _mistranslated),
]


def bundled() -> Rows:
    return [dict(row.prompts) for row in read_prompts(ROOT / "data" / "evaluation.jsonl")]


def multijail(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [{k: v for k, v in r.items() if v and k not in ("id", "source", "tags")} for r in csv.DictReader(file)]


def polyrefuse(folder: Path) -> Rows:
    """Harmful and harmless requests; harmless Chinese does not exist, so Chinese is missing there."""
    rows: Rows = []
    for kind in ("harmful", "harmless"):
        columns = {}
        for path in sorted(folder.glob(f"{kind}_test_translated_*.json")):
            records = json.loads(path.read_text(encoding="utf-8"))
            columns[path.stem[-2:]] = [r.get("instruction_translated") or r["instruction"] for r in records]
        rows += [dict(zip(columns, texts, strict=True)) for texts in zip(*columns.values(), strict=True)]
    return rows


def without_defects(rows: Rows) -> Rows:
    """The rows but for real defects, which would count as false alarms: a request twice, and invisible characters."""
    seen: set[str] = set()
    kept = []
    for row in rows:
        hidden = any(control_characters([text], tag)[0] for tag, text in row.items())
        if not hidden and normalise(row[SOURCE]) not in seen:
            kept.append(row)
        seen.add(normalise(row[SOURCE]))
    return kept


class Remembering(Encoder):
    """An encoder that encodes each text once: nine texts in ten are the same from corruption to corruption."""

    def __init__(self, model: str) -> None:
        super().__init__(model, None)
        self._known: dict[str, npt.NDArray[np.float32]] = {}

    def _encode(self, texts: Sequence[str | None]) -> npt.NDArray[np.float32]:
        new = list(dict.fromkeys(text for text in texts if text and text not in self._known))
        self._known |= dict(zip(new, super()._encode(new), strict=True))
        width = self._model.get_embedding_dimension() or 1
        missing = np.full(width, np.nan, np.float32)
        return np.array([self._known[text] if text else missing for text in texts], np.float32)


@cache
def encoder(model: str) -> Encoder:
    return Remembering(model)


def judge(rows: Rows, model: str | None) -> dict[tuple[int, str], set[str]]:
    """(row, language) -> the checks by which the variant goes to quarantine for its own sake."""
    settings = load_settings(ROOT / "params.yaml")
    tags = list(dict.fromkeys(tag for row in rows for tag in row))
    prompts = [
        PromptRow(id=str(n), source="benchmark", category="any", intent="benign", prompts=row)
        for n, row in enumerate(rows)
    ]
    validate = settings.validate_.model_copy(update={"per_language": {}})
    frame = add_quality(
        long_frame({"evaluation": prompts}, tags, SOURCE),
        SOURCE,
        ("evaluation",),
        validate.maximum_characters,
        validate.false_alarms,
        encoder(model) if model else None,
    )
    frame["reasons"] = quarantine.reasons(frame, validate, SOURCE, Releases())
    return {
        (int(row), str(tag)): checks
        for row, tag, reasons in zip(frame["id"], frame["language"], frame["reasons"], strict=True)
        if (checks := {reason.check for reason in reasons} - {"row"})
    }


def spoil(rows: Rows, corruption: Corruption, seed: int) -> tuple[Rows, set[tuple[int, str]]]:
    """The rows with a tenth of each language's variants spoilt, and which ones."""
    rng = random.Random(f"{corruption.name} {seed}")
    spoilt: dict[tuple[int, str], str] = {}
    for tag in rows[0]:
        if tag == SOURCE:
            continue
        indices = [n for n, row in enumerate(rows) if tag in row]
        rng.shuffle(indices)
        wanted = max(5, round(SHARE * len(indices)))
        done = 0
        for place, index in enumerate(indices):
            after = indices[(place + 1) % wanted]
            text = corruption.spoil(rows, index, tag, rng) if corruption.spoil else rows[after][tag]
            if text and text != rows[index][tag]:
                spoilt[index, tag] = text
                done += 1
            if done == wanted:
                break
    result = [{tag: spoilt.get((n, tag), text) for tag, text in row.items()} for n, row in enumerate(rows)]
    return result, set(spoilt)


# Nine texts in ten are the same from corruption to corruption.
identification.identify = cache(identification.identify)
identification.surely_other = cache(identification.surely_other)


def _measured(job: tuple[Rows, int | None, str | None]) -> tuple[set[tuple[int, str]], dict[tuple[int, str], set[str]]]:
    rows, number, model = job
    if number is None:
        return set(), judge(rows, model)
    changed, where = spoil(rows, CORRUPTIONS[number], 0)
    return where, judge(changed, model)


def _line(cells: Iterable[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


@app.command()
def table(
    polyrefuse_folder: Annotated[Path | None, typer.Option("--polyrefuse", help="its folder, as published")] = None,
    multijail_file: Annotated[Path | None, typer.Option("--multijail", help="its CSV file")] = None,
    only: Annotated[list[str] | None, typer.Option(help="these corruptions; all without it")] = None,
    model: Annotated[
        str | None, typer.Option("--encoder", help="a sentence-transformers model; none without it")
    ] = None,
    processes: int = 2,
) -> None:
    """Prints recall per corruption and language, and false alarms, as Markdown."""
    sets = {"embedded": bundled()}
    if polyrefuse_folder is not None:
        sets["PolyRefuse"] = polyrefuse(polyrefuse_folder)
    if multijail_file is not None:
        sets["MultiJail"] = multijail(multijail_file)
    corruptions = [corruption for corruption in CORRUPTIONS if not only or corruption.name in only]
    given = {name: len(rows) for name, rows in sets.items()}
    sets = {name: without_defects(rows) for name, rows in sets.items()}
    jobs: list[tuple[Rows, int | None, str | None]] = [
        (rows, number, model)
        for rows in sets.values()
        for number in (None, *(CORRUPTIONS.index(c) for c in corruptions))
    ]
    with ProcessPoolExecutor(processes) as pool:
        results = iter(pool.map(_measured, jobs))
        for name, rows in sets.items():
            tags = [tag for tag in dict.fromkeys(t for row in rows for t in row) if tag != SOURCE]
            print(f"\n{name}: {len(rows)} of {given[name]} rows; the others hold real defects\n")
            print(_line(["corruption", "all", *tags, "seen by (share of the spoilt variants)", "n"]))
            print(_line(["---"] * (len(tags) + 4)))
            _, alarms = next(results)
            texts = Counter(tag for row in rows for tag in row)
            share = {tag: sum(t == tag for _, t in alarms) / texts[tag] for tag in texts}
            total = sum(t != SOURCE for _, t in alarms) / sum(texts[tag] for tag in tags)
            why = Counter(check for (_, t), checks in alarms.items() if t != SOURCE for check in checks)
            n = sum(texts[tag] for tag in tags)
            seen = ", ".join(f"{check} {count / n:.1%}" for check, count in why.most_common())
            print(_line(["*false alarms*", f"{total:.1%}", *(f"{share[tag]:.1%}" for tag in tags), seen, n]))
            for corruption in corruptions:
                spoilt, findings = next(results)
                if not spoilt:
                    continue
                hit = {key for key in spoilt if key in findings}
                cells = []
                for tag in tags:
                    of = [key for key in spoilt if key[1] == tag]
                    cells.append(f"{sum(key in hit for key in of) / len(of):.2f}" if of else "-")
                why = Counter(check for key in hit for check in findings[key])
                seen = ", ".join(f"{check} {count / len(spoilt):.2f}" for check, count in why.most_common(4))
                print(
                    _line([corruption.name, f"**{len(hit) / len(spoilt):.2f}**", *cells, seen, len(spoilt)]), flush=True
                )


def synthetic(path: Path, rows: int, tags: list[str], seed: int) -> None:
    """A set of requests that are all different: words of the embedded world, drawn anew for every row."""
    rng = random.Random(seed)
    split = "alignment"
    known = combinations(split)

    def prompt_rows() -> Iterable[PromptRow]:
        for number in range(rows):
            parts = [(rng.choice(known), rng.choice(TEMPLATES[split])) for _ in range(2)]
            prompts = {}
            for place, tag in enumerate(tags):
                # More languages than there are: the same ones backwards, which is all the same to speed.
                world = language(LANGUAGES[place % len(LANGUAGES)])
                text = " ".join(world.request(c, template) for c, template in parts)
                prompts[tag] = f"{text if place < len(LANGUAGES) else text[::-1]} ({number})"
            intent: Any = "harmful" if number % 2 else "benign"
            yield PromptRow(id=f"r{number}", source="synthetic", category="any", intent=intent, prompts=prompts)

    write_prompts(path, prompt_rows())


@app.command()
def scale(rows: int = 100_000, languages: int = 10) -> None:
    """Times the stage on a synthetic set, its preparation apart; prints rows per second and peak memory as JSON."""
    more = ["fr", "de", "it", "pt", "nl", "pl", "tr", "vi", "id", "ko", "th"]
    tags = [*LANGUAGES, *more][:languages]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        synthetic(data / "alignment.jsonl", rows, tags, 0)
        synthetic(data / "evaluation.jsonl", 300, tags, 1)
        command = [sys.executable, __file__, "measure", folder, *tags]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GX_ANALYTICS_ENABLED": "false"}
        subprocess.run(command, check=True, env=environment)


@app.command(hidden=True)
def measure(folder: Path, tags: list[str]) -> None:
    """One run of the stage, as ``scale`` starts it."""
    from mlc.errors import QualityError
    from mlc.paths import Paths
    from mlc.quality import stage

    settings = load_settings(ROOT / "params.yaml")
    start = time.perf_counter()
    try:
        stage.run(Languages(source=SOURCE, served=tuple(tags), transfer=()), settings.validate_, Paths(folder))
        passed = True
    except QualityError as error:  # tags that are not the texts' languages
        passed = False
        print(str(error)[:2000], file=sys.stderr)
    seconds = time.perf_counter() - start
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    metrics = json.loads((folder / "artifacts" / "prompts" / "metrics.json").read_text())
    rows = metrics["rows"]["alignment"]["read"]
    print(
        json.dumps(
            {
                "rows": rows,
                "languages": len(tags),
                "passed": passed,
                "seconds": round(seconds, 1),
                "cpu_seconds": round(own.ru_utime + children.ru_utime, 1),
                "rows_per_second": round(rows / seconds, 1),
                "peak_memory_mb": round(own.ru_maxrss / 1024),
                "peak_memory_of_a_worker_mb": round(children.ru_maxrss / 1024),
            }
        )
    )


if __name__ == "__main__":
    app()
