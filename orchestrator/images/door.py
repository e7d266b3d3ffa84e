"""From a request with image URLs to images that an expert may be given."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from aiohttp import web

from ...backends.base import Image
from ..errors import InvalidRequest, PayloadTooLarge
from .decode import ImageLimits, checked, from_data_url
from .fetch import ImageFetcher

if TYPE_CHECKING:
    from ..config.settings import Settings


class ImageDoor:
    """Takes requests with images and loads those within the limits of the configuration."""

    def __init__(self, settings: Settings) -> None:
        rules = settings.images
        self._limits = ImageLimits(rules.max_images, rules.max_bytes, rules.max_pixels)
        self._fetcher = ImageFetcher(rules.allowed_hosts, self._limits, rules.timeout_s)
        self._somebody_sees = any(expert.images for expert in settings.experts)
        image_bytes = (rules.max_bytes + 2) // 3 * 4  # in base64
        self._max_body_bytes = settings.server.max_body_bytes + rules.max_images * image_bytes

    async def read(self, request: web.Request) -> bytes:
        """Return the body of a request that may hold images, for which it may be larger.

        Raises:
            PayloadTooLarge: more bytes than texts and images together may have.
            HTTPRequestEntityTooLarge: no expert takes images; more than the texts may have.
        """
        if not self._somebody_sees:
            return await request.read()
        try:
            return await request.clone(client_max_size=self._max_body_bytes).read()
        except web.HTTPRequestEntityTooLarge:
            message = (
                f"the body exceeds {self._max_body_bytes} bytes (server.max_body_bytes and, in "
                "base64, images.max_images of images.max_bytes)"
            )
            raise PayloadTooLarge(message) from None

    async def load(self, wanted: Sequence[tuple[str, str]]) -> Mapping[str, Image]:
        """Return the image of every URL.

        Args:
            wanted: (request field, URL) of each image.

        Raises:
            InvalidRequest: no expert takes images, too many, or one that cannot be used.
            PayloadTooLarge: one of too many bytes.
        """
        if not wanted:
            return {}
        param = wanted[0][0]
        if not self._somebody_sees:
            message = f"{param}: image_url parts are not supported: no expert here takes images"
            raise InvalidRequest(message, param=param, code="unsupported_content")
        limit = self._limits.max_images
        if len(wanted) > limit:
            param = wanted[limit][0]
            message = f"{param}: got {len(wanted)} images, the limit is {limit} (images.max_images)"
            raise InvalidRequest(message, param=param, code="too_many_images")
        found: dict[str, Image] = {}
        for param, url in wanted:
            if url not in found:
                found[url] = await self._one(url, param)
        return found

    async def _one(self, url: str, param: str) -> Image:
        if url[:5].lower() == "data:":
            data = await asyncio.to_thread(from_data_url, url, param, self._limits)
        else:
            data = await self._fetcher.fetch(url, param)
        return await asyncio.to_thread(checked, data, param, self._limits)
