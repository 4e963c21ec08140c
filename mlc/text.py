"""How numbers and foreign text look, everywhere: on the terminal, in the report, in the model card and in Prefect.

A prompt set is read by people, and its texts come from anywhere: an escape sequence would drive the terminal, a
right-to-left override would show another text than the model is given, a tag would run in the page. An address or an
error may hold a password: ``shown_uri`` and ``without_secrets`` take it out of whatever is shown, logged or kept.
"""

from __future__ import annotations

import html
import json
import os
import re
import unicodedata
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Literal, TypedDict, get_args
from urllib.parse import unquote

LONGEST = 200  # characters of one text in a message
LONGEST_ON_PAGE = 600  # characters of a prompt or reply on a page; enough to see what it is
MISSING = "–"
_BEFORE = 40  # characters shown before the first difference of two texts
_JOINERS = "\u200c\u200d"
# On a page, line breaks stay; joiners and marks of direction are part of honest text; nothing there reads a backslash.
_ON_PAGE = frozenset("\n\t\\\u200e\u200f" + _JOINERS)
# All of what may begin something in CommonMark, its tables, autolinks, GitHub's mathematics and emoji.
_MARKDOWN = re.compile(r"""[\\`*_{}\[\]()<>"&#|~^$:@!]|(?<=www)\.""", re.IGNORECASE)
_HIDDEN = "***"
_SHORTEST_SECRET = 4  # characters; taking out anything shorter would leave no text
# Words of the names of variables and query parameters, and last words of those that only name or locate a secret.
_SECRET_ENDS = ("PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "CREDENTIALS", "SIGNATURE")
_SECRET_WORDS = {"PASS", "PWD", "SIG"}
_SECRET_STRINGS = ("AUTH_STRING", "CONNECTION_STRING")
_NO_SECRETS = {"ID", "FILE", "PATH", "DIR", "NAME"}
_ADDRESSES = {"PROXY", "URI", "URL"}
_SWITCHES = {"DISABLE", "ENABLE", "USE"}
_SCHEME = re.compile(r"[A-Za-z][\w+.-]*")
_USERINFO = re.compile(r"\b([A-Za-z][\w+.-]{0,30}://)(?!/)\S*@")
_ASSIGNED = re.compile(
    r"(\w*(?:password|passwd|passphrase|pwd|secret|token|api_?key|(?:access|account)_?key|sig|signature)=)"
    r"""('[^']*'|"[^"]*"|[^\s&;,'")\]}]+)""",
    re.IGNORECASE,
)
_AUTHORIZATION = re.compile(r"""(authorization['"]?\s*[:=]\s*b?['"]?(?:basic|bearer)\s+)[^\s'"]+""", re.IGNORECASE)
_KEYS = re.compile(r"\b(?:sk-[\w-]{16,}|hf_[A-Za-z0-9]{16,}|pn[ub]_[A-Za-z0-9]{16,})")  # OpenAI, the hub, Prefect

RateName = Literal[
    "safe_rate",
    "attack_success_rate",
    "over_refusal",
    "invalid",
    "fidelity",
    "refusal_fidelity",
    "language_unknown",
    "cut_off",
    "only_thinking",
]  # of an evaluation: a share of prompts
RATE_NAMES: tuple[RateName, ...] = get_args(RateName)
# The rates that people look at first, in this order.
HEADLINE_RATES: tuple[RateName, ...] = ("safe_rate", "over_refusal", "fidelity", "invalid")
_TITLES = {
    "safe_rate": "safe rate",
    "attack_success_rate": "attack success",
    "over_refusal": "over-refusal",
    "invalid": "invalid",
    "fidelity": "language fidelity",
    "refusal_fidelity": "refusal fidelity",
    "language_unknown": "language unknown",
    "cut_off": "cut off",
    "only_thinking": "only thinking",
    "perplexity_ratio": "perplexity ratio",
    "perplexity": "perplexity",
    "pag_benign": "agreement on benign prompts",
    "pag": "pairwise agreement (PAG)",
    "task_accuracy": "task accuracy",
}


class Interval(TypedDict):
    """The ends of an interval and the value in it: what is shown of an estimate."""

    value: float
    low: float
    high: float


def title(name: str) -> str:
    """What a rate or a rule is called: ``over_refusal_mean`` -> ``over-refusal mean``."""
    for rate, rate_title in _TITLES.items():
        if name == rate or name.startswith(f"{rate}_"):
            return f"{rate_title}{name.removeprefix(rate).replace('_', ' ')}"
    return name.replace("_", " ")


def heading(name: str) -> str:
    """``title`` as a heading begins: ``Over-refusal mean``."""
    return title(name)[0].upper() + title(name)[1:]


def percent(share: float | None) -> str:
    """``0.3125`` -> ``31.2%``; a dash for none."""
    return MISSING if share is None else f"{_tenths(share)}%"


def _tenths(share: float) -> str:
    return f"{round(100 * share, 1) + 0.0:.1f}"  # + 0.0: nothing below zero is no minus zero


def number(value: float | None) -> str:
    """``1.04672`` -> ``1.047``; a dash for none."""
    return MISSING if value is None else f"{value:.3f}"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, without a unit: ``0.021`` -> ``+2.1``."""
    return f"{'+' if difference >= 0 else ''}{_tenths(difference)}"


def interval(estimate: Interval, unit: str = "percent") -> str:
    """``91.2–97.0%``, the interval of an estimate."""
    if unit == "percent":
        return f"{_tenths(estimate['low'])}–{_tenths(estimate['high'])}%"
    return f"{number(estimate['low'])}–{number(estimate['high'])}"


def with_interval(estimate: Interval) -> str:
    """``94.5% (91.2–97.0%)``."""
    return f"{percent(estimate['value'])} ({interval(estimate)})"


def visible(text: str, keep: frozenset[str] = frozenset()) -> str:
    r"""``text`` on one line, with what cannot be seen, or acts, as in a Python literal: ``\n``, ``\x1b``, ``\u202e``.

    Two texts never look the same: a backslash is doubled. Joiners stay where Arabic and Indic scripts need them, after
    a letter without case or a mark. Characters in ``keep`` stay wherever they are.
    """
    escaped, before = [], ""
    for character in text:
        joins = character in _JOINERS and before != "" and unicodedata.category(before) in ("Lo", "Mn", "Mc")
        space = unicodedata.category(character) == "Zs"
        plain = character in keep or (character != "\\" and (character.isprintable() or space or joins))
        escaped.append(character if plain else character.encode("unicode_escape").decode("ascii"))
        before = character
    return "".join(escaped)


def on_page(text: str) -> str:
    """A prompt or reply as a page shows it: ``visible`` with its line breaks, cut to length."""
    more = len(text) - LONGEST_ON_PAGE
    excerpt = visible(text[:LONGEST_ON_PAGE], _ON_PAGE)
    return f"{excerpt} … ({more:,} more characters)" if more > 0 else excerpt


def markdown(text: str) -> str:
    """``text`` as plain words of a Markdown page: no markup, no HTML, no link, on one line."""
    return _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", visible(text)).strip()


def quoted(text: str, start: int = 0, longest: int = LONGEST) -> str:
    """``text`` from ``start`` on as a Python literal, in quotes; what is left out is said."""
    part = repr(text[start : start + longest])
    left = len(text) - start - longest
    before = f"({start:,} characters) … " if start else ""
    return f"{before}{part}{f' … ({left:,} characters more)' if left > 0 else ''}"


def quoted_name(name: str) -> str:
    """An id, tag or field name: as it is where that is harmless, else as ``quoted``."""
    return name if name.isprintable() and len(name) <= LONGEST else quoted(name)


def quoted_pair(old: str, new: str) -> tuple[str, str]:
    """Two versions of a text, both from shortly before their first difference on."""
    same = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, same - _BEFORE) if same > LONGEST - _BEFORE else 0
    return quoted(old, start), quoted(new, start)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def one_line(error: object, longest: int = 200) -> str:
    """What an error says, in one line, without secrets and cut to length; its type where it says nothing."""
    return " ".join(without_secrets(str(error)).split())[:longest] or type(error).__name__


def shown_uri(uri: str) -> str:
    """An address without its user, password and query, any of which may be a secret: ``http://***@host/path?***``.

    It may be whatever MLflow, DVC and proxies accept: a URL, a database, a path. Where it is unclear how far an
    unencoded password reaches, only the scheme is shown.
    """
    scheme, separator, rest = _split(uri)
    if _is_path(scheme, rest):
        path, question, _ = rest.partition("?") if scheme else (rest, "", "")
        return f"{scheme}{separator}{path}{f'?{_HIDDEN}' if question else ''}"
    end = next((n for n, character in enumerate(rest) if character in "?#"), len(rest))
    if "@" in rest[end:]:  # of a query, or the end of a password that holds a question mark
        return f"{scheme}{separator}{_HIDDEN}"
    _, at, place = rest[:end].rpartition("@")
    return f"{scheme}{separator}{f'{_HIDDEN}@' if at else ''}{place}{f'{rest[end]}{_HIDDEN}' if rest[end:] else ''}"


def _split(uri: str) -> tuple[str, str, str]:
    """The scheme, ``://`` and the rest; the first two are empty where there is no scheme."""
    scheme, separator, rest = uri.strip().partition("://")
    return (scheme, separator, rest) if separator and _SCHEME.fullmatch(scheme) else ("", "", uri.strip())


def _is_path(scheme: str, rest: str) -> bool:
    """``sqlite:///a@b.db`` and ``/home/me@example.org`` have no user: what is before an ``@`` is part of a path."""
    return rest.startswith("/" if scheme else ("/", "./", "../", "~/"))


def without_secrets(text: str, configuration: Mapping[str, object] | None = None) -> str:
    """``text`` with ``***`` for every secret that is known or looks like one, however it is encoded.

    Known are the values of environment variables with names such as ``..._PASSWORD`` or ``..._KEY``, and the passwords
    and tokens in addresses there; so are those of ``configuration``, names and values of a library's own. Users and
    passwords of any other URL are taken out too, and what is assigned to ``password=`` and the like. A secret of fewer
    than four characters stays, outside URLs.
    """
    known: set[str] = set()
    secrets: set[str] = set()
    for name, value in (*os.environ.items(), *(configuration or {}).items()):
        if not isinstance(value, str):
            continue
        if _is_secret(name):
            secrets.add(value)
        elif _split(value)[0] or _words(name)[-1] in _ADDRESSES:
            known.add(value)
            secrets.update(_secrets_in(value))
    for address in sorted(known, key=len, reverse=True):
        if "@" in address or "?" in address:  # whole, while it can be told apart from the words around it
            text = text.replace(address, shown_uri(address))
    if pattern := _spellings(frozenset(secrets)):
        text = pattern.sub(_HIDDEN, text)
    text = _USERINFO.sub(rf"\1{_HIDDEN}@", text)
    text = _ASSIGNED.sub(rf"\1{_HIDDEN}", text)
    text = _AUTHORIZATION.sub(rf"\1{_HIDDEN}", text)
    return _KEYS.sub(_HIDDEN, text)


def _words(name: str) -> list[str]:
    return re.split(r"[\W_]", name.upper())


def _is_secret(name: str) -> bool:
    """Whether a variable or parameter of that name holds a secret: ``HF_TOKEN`` does, ``HF_TOKEN_PATH`` does not."""
    words = _words(name)
    if words[-1] in _NO_SECRETS or _SWITCHES.intersection(words) or words == ["PWD"]:  # the folder that one is in
        return False
    named = any(word.endswith(_SECRET_ENDS) or word in _SECRET_WORDS for word in words)
    return named or name.upper().endswith(_SECRET_STRINGS)


def _secrets_in(uri: str) -> Iterator[str]:
    """The password of an address, or its user where that may be a token, in every way that it can be read.

    Libraries end an unencoded password at another character each, and then name what is left as a host or a port.
    """
    scheme, _, rest = _split(uri)
    userinfo = "" if _is_path(scheme, rest) else rest.rpartition("@")[0]
    user, colon, password = userinfo.partition(":")
    secret = password if colon else userinfo
    yield secret
    yield from re.split(r"[@/?#:]", secret)
    if colon:
        yield b64encode(f"{unquote(user)}:{unquote(password)}".encode("utf-8", "replace")).decode()
        if len(user) >= 20:
            yield user
    for part in re.split("[&;]", rest.partition("?")[2]):
        name, _, value = part.partition("=")
        if _is_secret(name):
            yield value


@lru_cache(maxsize=8)
def _spellings(secrets: frozenset[str]) -> re.Pattern[str] | None:
    """Finds these texts as they are, percent-encoded or decoded, escaped as in Python, JSON or HTML, or on one line."""
    forms = {form.strip() for secret in secrets for form in (secret, unquote(secret), unquote(unquote(secret)))}
    longest_first = sorted(
        (form for form in forms if len(form) >= _SHORTEST_SECRET), key=lambda form: (-len(form), form)
    )
    pattern = "|".join("".join(map(_spelling, re.split(r"(\s+)", form))) for form in longest_first)
    return re.compile(pattern) if pattern else None


def _spelling(part: str) -> str:
    if part.isspace():  # as it is, as a form has it, or made one by who writes on one line
        return rf"(?:{'|'.join(map(_spelling_of_one, sorted(set(part))))}|\s|\+|%20)+"
    return "".join(map(_spelling_of_one, part))


@lru_cache(maxsize=256)
def _spelling_of_one(character: str) -> str:
    encoded = "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))
    forms = {character}
    if not (character.isascii() and character.isalnum()):
        forms |= {f"\\{character}", repr(character)[1:-1], json.dumps(character)[1:-1]}
        forms |= {html.escape(character), f"&#{ord(character)};"}
    longest_first = sorted(map(re.escape, forms), key=len, reverse=True)
    return f"(?:(?i:{encoded})|{'|'.join(longest_first)})"  # the encoded first: ``%25`` is no ``%``
