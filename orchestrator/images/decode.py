"""Images of a request: from a data: URL or bytes to something an expert may be given.

Owns what is refused: too many, too large, too many pixels, no image at all. Fetching is
``fetch.py``'s.
"""

from __future__ import annotations

import base64
import io
import re
import warnings
from dataclasses import dataclass

from ...backends.base import Image
from ..errors import InvalidRequest, PayloadTooLarge

MEDIA_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif"}
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[\w.+-]+)*);base64,", re.ASCII)


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Of one request: images, bytes of each one as it came, pixels of each one decoded."""

    max_images: int = 8
    max_bytes: int = 8 * 2**20
    max_pixels: int = 16_777_216


def from_data_url(url: str, param: str, limits: ImageLimits) -> bytes:
    """Return the bytes of a data: URL.

    Raises:
        InvalidRequest: it is not base64 or names no image; ``param`` is in the message.
        PayloadTooLarge: more than ``max_bytes``.
    """
    found = _DATA_URL.match(url)
    if found is None:
        raise invalid(param, "got a data: URL that is not base64 of an image")
    if len(url) - found.end() > (limits.max_bytes + 2) // 3 * 4:
        raise too_large(param, limits)
    try:
        return base64.b64decode(url[found.end() :], validate=True)
    except ValueError:
        raise invalid(param, "got a data: URL whose base64 is damaged") from None


def checked(data: bytes, param: str, limits: ImageLimits) -> Image:
    """Return the image after decoding it once; blocks for up to a second, so use a thread.

    Raises:
        InvalidRequest: not a whole image of a known format, or too many pixels.
        PayloadTooLarge: more than ``max_bytes``.
    """
    import PIL.Image

    if len(data) > limits.max_bytes:
        raise too_large(param, limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what the limit below refuses
            with PIL.Image.open(io.BytesIO(data), formats=tuple(MEDIA_TYPES)) as picture:
                pixels = picture.width * picture.height
                if pixels > limits.max_pixels:
                    raise invalid(
                        param,
                        f"got {picture.width} x {picture.height} = {pixels} pixels, the limit is "
                        f"{limits.max_pixels} (images.max_pixels)",
                    )
                kind = str(picture.format)  # MPO: a JPEG with further pictures behind it
                picture.load()
    except PIL.Image.DecompressionBombError:
        message = f"more pixels than the limit of {limits.max_pixels} (images.max_pixels)"
        raise invalid(param, message) from None
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError):
        known = ", ".join(MEDIA_TYPES)
        raise invalid(param, f"not a whole image; need one of {known}") from None
    return Image(MEDIA_TYPES["JPEG" if kind == "MPO" else kind], data)


def invalid(param: str, message: str) -> InvalidRequest:
    """Return the error for an image that cannot be used."""
    return InvalidRequest(f"{param}: {message}", param=param, code="invalid_image")


def too_large(param: str, limits: ImageLimits) -> PayloadTooLarge:
    """Return the error for an image of too many bytes."""
    message = f"{param}: an image of more than {limits.max_bytes} bytes (images.max_bytes)"
    return PayloadTooLarge(message, param=param, code="image_too_large")
