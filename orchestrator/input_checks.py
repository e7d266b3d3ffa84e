"""What may be put into a session: text of bounded length, in revisions that only grow."""

from __future__ import annotations

from .errors import InvalidRequest, PayloadTooLarge, RevisionConflict


def checked_text(text: str, max_chars: int) -> str:
    """Return the text.

    Raises:
        PayloadTooLarge: it has more than ``max_chars`` characters.
        InvalidRequest: it is not valid Unicode.
    """
    if len(text) > max_chars:
        raise PayloadTooLarge(
            f"text: {len(text)} characters, the limit is {max_chars}",
            param="text",
            code="text_too_long",
        )
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("text: not valid Unicode (a lone surrogate)", param="text") from None
    return text


def check_not_empty(text: str, *beside: object) -> None:
    """Check that a commit says something: text, or what is shown or stands beside it.

    Raises:
        InvalidRequest: it does not.
    """
    if not beside and not text.strip():
        raise InvalidRequest("the committed text is empty", param="text", code="empty_text")


def next_revision(newest: int, revision: int | None) -> int:
    """Return the revision that follows the newest one: the one given, or one more.

    Raises:
        RevisionConflict: the one given is not newer.
    """
    if revision is None:
        return newest + 1
    if revision <= newest:
        raise RevisionConflict(
            f"revision: got {revision}, need more than {newest}", param="revision"
        )
    return revision
