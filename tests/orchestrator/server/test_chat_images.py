"""Images in chat requests: who answers, what is refused, what speculation leaves alone."""

from __future__ import annotations

import base64
import io
from typing import Any

import PIL.Image
import pytest

from livemind.backends.base import Message
from livemind.backends.fake import FakeExpert

EYE = {"eye": {"images": True}}


def png(color: str = "red", size: tuple[int, int] = (8, 8)) -> str:
    file = io.BytesIO()
    PIL.Image.new("RGB", size, color).save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def shown(*urls: str, text: str = "what is this") -> dict[str, Any]:
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [*images, {"type": "text", "text": text}]}


def counts(messages: Any) -> str:
    found: list[Message] = list(messages)
    return " ".join(f"{m.role}:{len(m.images)}" for m in found)


def experts() -> tuple[FakeExpert, FakeExpert]:
    return FakeExpert("blind", answer=counts), FakeExpert("eye", images=True, answer=counts)


async def test_image_routes_to_the_expert_that_sees_and_the_next_question_stays(serve: Any) -> None:
    async with serve(*experts(), experts_given=EYE) as doors:
        chat = [shown(png())]
        _, answer = await doors.post("/v1/chat/completions", {"messages": chat})
        assert (answer["model"], answer["choices"][0]["message"]["content"]) == ("eye", "user:1")
        chat += [{"role": "assistant", "content": "red"}, {"role": "user", "content": "why"}]
        _, answer = await doors.post("/v1/chat/completions", {"messages": chat})
        said = answer["choices"][0]["message"]["content"]
        assert (answer["model"], said) == ("eye", "user:1 assistant:0 user:0")


async def test_image_for_an_expert_that_takes_none_is_refused_by_name(serve: Any) -> None:
    async with serve(*experts(), experts_given=EYE) as doors:
        body = {"messages": [shown(png())], "model": "blind"}
        status, answer = await doors.post("/v1/chat/completions", body)
        error = answer["error"]
        assert (status, error["code"], error["param"]) == (400, "unsupported_content", "messages")
        assert "'blind' takes no images" in error["message"]


@pytest.mark.parametrize(
    ("urls", "code", "where"),
    [
        ([png()] * 3, "too_many_images", 2),
        ([png(size=(200, 200))], "invalid_image", 0),
        (["data:image/png;base64,AAAA"], "invalid_image", 0),
        (["http://127.0.0.1:1/x.png"], "invalid_image", 0),
        (["file:///etc/passwd"], "invalid_image", 0),
    ],
    ids=["many", "pixels", "noise", "private", "file"],
)
async def test_image_outside_the_limits_is_refused_with_its_place(
    serve: Any, urls: list[str], code: str, where: int
) -> None:
    images = {"max_images": 2, "max_pixels": 1000}
    async with serve(*experts(), experts_given=EYE, images=images) as doors:
        status, answer = await doors.post("/v1/chat/completions", {"messages": [shown(*urls)]})
        error = answer["error"]
        assert (status, error["code"]) == (400, code)
        assert error["param"] == f"messages[0].content[{where}].image_url.url"


async def test_image_larger_than_a_text_request_passes(serve: Any) -> None:
    limits = {"max_body_bytes": 2000}
    async with serve(*experts(), experts_given=EYE, **limits) as doors:
        noise = io.BytesIO()
        PIL.Image.effect_noise((64, 64), 90).save(noise, "PNG")
        url = "data:image/png;base64," + base64.b64encode(noise.getvalue()).decode()
        assert len(url) > 2000
        status, answer = await doors.post("/v1/chat/completions", {"messages": [shown(url)]})
        assert (status, answer["model"]) == (200, "eye")


@pytest.mark.parametrize(
    ("path", "limit", "names"),
    [
        (
            "/v1/chat/completions",
            2000 + 2 * 4000,
            "server.max_body_bytes and, in base64, images.max_images of images.max_bytes",
        ),
        ("/v1/completions", 2000, "server.max_body_bytes"),
        ("/v1/live/sessions", 2000, "server.max_body_bytes"),
    ],
)
async def test_body_over_the_limit_of_its_route_is_refused_with_that_limit(
    serve: Any, path: str, limit: int, names: str
) -> None:
    images = {"max_images": 2, "max_bytes": 3000}
    server = {"max_body_bytes": 2000}
    async with serve(*experts(), experts_given=EYE, images=images, **server) as doors:
        _, fits = await doors.ask("POST", path, data=b" " * limit)
        status, refused = await doors.ask("POST", path, data=b" " * (limit + 1))
        assert fits["error"]["code"] == "invalid_json"
        assert (status, refused["error"]["code"]) == (413, "payload_too_large")
        assert refused["error"]["message"] == f"the body exceeds {limit} bytes ({names})"


async def test_chat_body_where_nobody_sees_has_the_limit_of_texts(serve: Any) -> None:
    async with serve(max_body_bytes=2000) as doors:
        status, answer = await doors.ask("POST", "/v1/chat/completions", data=b" " * 2001)
        assert status == 413
        assert answer["error"]["message"] == "the body exceeds 2000 bytes (server.max_body_bytes)"


async def test_typed_turn_that_is_committed_with_an_image_drops_what_was_prepared(
    serve: Any, eventually: Any
) -> None:
    """A draft that was made without the image is not adopted."""
    async with serve(*experts(), experts_given=EYE) as doors:
        _, session = await doors.post("/v1/live/sessions", {"model": "eye"})
        path = f"/v1/live/sessions/{session['id']}"
        await doors.ask("PUT", f"{path}/input", json={"text": "what is this "})
        await eventually(lambda: doors.experts["eye"].generated_tokens)
        body = {"messages": [shown(png())], "livemind": True}
        headers = {"X-LiveMind-Session": session["id"]}
        _, answer = await doors.post("/v1/chat/completions", body, headers=headers)
        assert answer["choices"][0]["message"]["content"] == "user:1"
        assert answer["livemind"]["ledger"]["draft_adopted"] == 0
