"""What of a text is written in its writer's language: code, quotes, addresses and names are not.

Pure and linear in the text.
"""

from __future__ import annotations

import re

LEAST_LETTERS = 3
"""With fewer letters left nothing can be said of the language."""

_FENCED = re.compile(r"```.*?(?:```|\Z)", re.S)
_INLINE = re.compile(r"`[^`\n]*`")
_QUOTED = re.compile(
    r'"[^"\n]{1,400}(?:"|\Z)|“[^”\n]{1,400}(?:”|\Z)|„[^“”\n]{1,400}(?:[“”]|\Z)'
    r"|«[^»\n]{1,400}(?:»|\Z)|「[^」\n]{1,400}(?:」|\Z)|‹[^›\n]{1,400}(?:›|\Z)"  # noqa: RUF001
    r"|(?<![^\W_])'[^'\n]{2,400}'(?![^\W_])"
)
"""One that is still open reaches to the end: its closing mark is not typed yet."""
_ADDRESS = re.compile(r"\b(?:https?://|www\.)\S+|(?<!\S)\S+@\S+\.\S+|(?<!\S)[~./]?/\S+")
_IDENTIFIER = re.compile(
    r"\b\w*(?:_\w+|[a-z][A-Z]\w*|\d\w*[A-Za-z]\w*)\b|\b\w+\([^)\n]{0,200}\)|\b\w+\.(?:\w+\.)*\w+\b"
)
_CODE_LINE = re.compile(
    r"(?:(?:def|class|import|from|return|const|let|var|function|public|private|static|fn|func|"
    r"package|using|namespace|elif|else:|try:|except|raise|yield|SELECT|INSERT|UPDATE|DELETE|"
    r"CREATE|FROM|WHERE|JOIN)\b.*|(?:#include|#define|//|/\*|\*|@\w+|\$ |>>> |\+\+\+|---).*|"
    r".*[{};]|.*(?:=>|->|:=|==|!=|&&|\|\|).*|\w+\s*=\s*\S.*)$"
)
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][\w-]+(?: [A-Z][\w-]+)*")


def prose(text: str) -> str:
    """Return the text without what says nothing about its writer's language.

    Code in fences and back quotes, lines that look like code, quotes, addresses, identifiers and,
    inside of a sentence, words that begin with a capital.
    """
    text = _INLINE.sub(" ", _FENCED.sub("\n", text))
    lines = text.splitlines()
    if len(lines) > 1 or not any(letter.isspace() for letter in text.strip()):
        lines = [line for line in lines if not _CODE_LINE.match(line.strip())]
    text = _QUOTED.sub(" ", " \n".join(lines))
    text = _IDENTIFIER.sub(" ", _ADDRESS.sub(" ", text))
    text = " ".join(_NAME.sub(" ", text).split())
    return text if sum(map(str.isalpha, text)) >= LEAST_LETTERS else ""
