"""The parts of a message's content: text that is joined, and images by their URLs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from pydantic_core import PydanticCustomError

TEXT_OF = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Parts that are text, and the field that holds it; further fields of a part are passed over."""


def refusal(code: LiteralString, param: str, message: str) -> PydanticCustomError:
    """Return a validation error of our own; ``param`` continues the path of what is validated."""
    path = param if param.startswith("[") else f".{param}"
    return PydanticCustomError(code, "{message}", {"message": message, "param": path})


def texts_of(parts: Sequence[object]) -> list[str]:
    """Return the texts of parts that may be nothing else.

    Raises:
        PydanticCustomError: another kind of part, by its name.
    """
    return [_text(_kind(number, part), number, part) for number, part in enumerate(parts)]


def split(parts: Sequence[object]) -> tuple[str, tuple[tuple[int, str], ...]]:
    """Return the texts joined with newlines, and (place, URL) of each image.

    Raises:
        PydanticCustomError: another kind of part, by its name; the path begins at the message.
    """
    texts, urls = [], []
    for number, part in enumerate(parts):
        kind = _kind(number, part, "content")
        if kind in ("image_url", "input_image"):
            urls.append((number, _url(number, part)))
        else:
            texts.append(_text(kind, number, part, "content"))
    return "\n".join(texts), tuple(urls)


def _kind(number: int, part: object, where: str = "") -> str:
    if not isinstance(part, dict) or not isinstance(part.get("type"), str):
        raise refusal("unsupported_content", f"{where}[{number}]", "need an object with a type")
    return str(part["type"])


def _text(kind: str, number: int, part: object, where: str = "") -> str:
    place = f"{where}[{number}]"
    if kind not in TEXT_OF:
        named = kind if kind.isidentifier() and len(kind) <= 32 else "such"
        message = f"{named} parts are not supported here"
        raise refusal("unsupported_content", place, message)
    assert isinstance(part, dict)
    text = part.get(TEXT_OF[kind])
    if not isinstance(text, str):
        message = f"a {kind} part has {TEXT_OF[kind]}, a string"
        raise refusal("unsupported_content", place, message)
    return text


def _url(number: int, part: object) -> str:
    assert isinstance(part, dict)
    place, image = f"content[{number}]", part.get("image_url")
    if isinstance(image, str):
        image = {"url": image, "detail": part.get("detail")}
    if not isinstance(image, dict):
        message = "an image part has image_url, an object"
        raise refusal("unsupported_content", place, message)
    url = image.get("url")
    if not isinstance(url, str):
        message = "image_url has url, a string, and perhaps detail"
        raise refusal("unsupported_content", f"{place}.image_url", message)
    if image.get("detail") not in (None, "auto"):
        message = "only auto: the expert decides at which size it looks"
        raise refusal("unsupported_parameter", f"{place}.image_url.detail", message)
    return url
