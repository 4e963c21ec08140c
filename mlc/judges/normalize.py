"""Texts made comparable: what looks the same, or is only typed differently, becomes the same."""

from __future__ import annotations

import unicodedata

import regex

# Letters that pass for a Latin one in most fonts, after case folding: Cyrillic, Greek, Armenian, and Latin's own.
# After the confusables table of Unicode Technical Standard 39, of which this is a small part.
_LOOK_ALIKES = str.maketrans(
    {
        **dict(zip("авекмнорстухѕіјһԁԛԝьӏґ", "abekmhopctyxsijhdqwblr", strict=True)),
        **dict(zip("αβγεζηικμνορτυχω", "abyeznikmvoptuxw", strict=True)),
        **dict(zip("աոսհօցզ", "wnuhogq", strict=True)),
        **dict(zip("ıɑɡɩʟᴀᴄᴅᴇᴊᴋᴍɴᴏᴘᴛᴜᴠᴡᴢ", "iagilacdejkmnoptuvwz", strict=True)),
        **dict(zip("كيىۀەہھ", "کییههههه"[:7], strict=True)),
    }
)
# Cf: soft hyphens, joiners, marks of direction, tags. Then what Unicode calls ignorable by default, or fills a cell.
_INVISIBLE = regex.compile(r"[\p{Cf}\p{Default_Ignorable_Code_Point}\u2800]")
_MARKS = regex.compile(r"(?<=[\p{Latin}\p{Cyrillic}\p{Greek}\p{Arabic}])\p{Mn}+")
# Where a clause ends within a sentence, also at a gap between columns. An apostrophe or a hyphen in a word ends none.
_CLAUSE_ENDS = regex.compile(
    r"[^\p{L}\p{M}\p{N}\s.:'’ʼ`\-]+|(?<![\p{L}\p{M}\p{N}])-+|-+(?![\p{L}\p{M}\p{N}])|\s*\t\s*|[ \u00a0\u3000]{3,}"
)
_ENDS = regex.compile(r"[.!?。．！？।॥؟۔…]+|\s*[\n\r\v\f\x85\u2028\u2029]\s*")


def folded(text: str) -> str:
    """``text`` in lower case without accents, invisible characters and look-alike letters; lines stay.

    For comparing with other folded text, never for showing: Cyrillic becomes half Latin, and Vietnamese loses its
    tones. Fails on: digits for letters (``y0u``), and letters of scripts that are not listed.
    """
    decomposed = unicodedata.normalize("NFKD", _INVISIBLE.sub("", text)).casefold()
    plain = unicodedata.normalize("NFKC", _MARKS.sub("", unicodedata.normalize("NFKD", decomposed)))
    return plain.translate(_LOOK_ALIKES)


def clauses(text: str) -> str:
    """As ``words``, and every mark within a sentence (commas, dashes, brackets, quotes, symbols) is a `` , ``."""
    marked = _CLAUSE_ENDS.sub(" , ", _ENDS.sub(" . ", folded(text)).replace(":", " : "))
    return " ".join(regex.sub(r"[^\p{L}\p{M}\p{N}.:,\s]", " ", marked).split())


def words(text: str) -> str:
    """Folded words with single spaces between them; ends of sentences and lines are `` . ``, colons `` : ``."""
    return " ".join(clauses(text).replace(",", " ").split())
