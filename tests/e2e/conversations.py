"""Seeded requests with tools and with forms, for experts of a few million weights."""

from __future__ import annotations

import json
import random
from typing import Any

Json = dict[str, Any]
MOST_TOKENS = 96
LEXICON = (
    "who",
    "owns",
    "the",
    "red",
    "port",
    "near",
    "a",
    "second",
    "machine",
    "and",
    "which",
    "is",
)
CITY = {"type": "string", "enum": ["Oslo", "Rome", "Bern"]}
PARAMETERS: dict[str, Json] = {
    "weather": {"type": "object", "properties": {"city": CITY}, "required": ["city"]},
    "convert": {
        "type": "object",
        "properties": {"unit": {"enum": ["m", "km"]}, "exact": {"type": "boolean"}},
        "required": ["unit", "exact"],
    },
    "clock": {"type": "object", "properties": {}},
}
CALLS = {
    "hermes": '<tool_call>\\n{"name": "weather", "arguments": {"city": "(Oslo|Rome)"}}\\n'
    "</tool_call>",
    "qwen": "<tool_call>\\n<function=weather>\\n<parameter=city>\\n(Oslo|Rome)\\n</parameter>\\n"
    "</function>\\n</tool_call>",
    "llama": '{"name": "weather", "parameters": {"city": "(Oslo|Rome)"}}',
    "mistral": '\\[TOOL_CALLS\\]weather{"city": "(Oslo|Rome)"}',
}
"""What a model of each style writes that calls a function; a regular expression."""


def body(style: str, number: int) -> Json:
    """Return the request of a seeded conversation; every fourth one ends with a tool's result."""
    rng = random.Random(f"{style}{number}")
    names = rng.sample(sorted(PARAMETERS), rng.randint(1, 3))
    if number % 5 == 0 and "weather" not in names:
        names[0] = "weather"
    tools = [
        {
            "type": "function",
            "function": {
                "name": name,
                "description": said(rng, 4),
                "parameters": PARAMETERS[name],
                # The forms of strict tools would take the place of the regular expression.
                "strict": rng.random() < 0.9 and number % 5 != 0,
            },
        }
        for name in names
    ]
    messages: list[Json] = []
    if number % 4 == 1:
        arguments = json.dumps({"city": rng.choice(CITY["enum"])})
        call: Json = {"id": "call00001", "type": "function"}
        call |= {"function": {"name": names[0], "arguments": arguments}}
        messages += [
            {"role": "user", "content": said(rng, 6)},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call00001", "content": said(rng, 3)},
        ]
    if number % 8 == 5:
        messages.append({"role": "assistant", "content": said(rng, 4)})
    if number % 8 != 1:
        messages.append({"role": "user", "content": said(rng, rng.randint(8, 30))})
    asked: Json = {"messages": messages, "tools": tools, "temperature": 0.0}
    asked |= {"max_tokens": MOST_TOKENS, "model": "tiny"}
    if number % 5 == 0:
        regex = CALLS[style].replace("{", "\\{").replace("}", "\\}")
        return {**asked, "tool_choice": "auto", "structured_outputs": {"regex": regex}}
    named = {"type": "function", "function": {"name": names[-1]}}
    asked["tool_choice"] = rng.choice(["auto", "none", "required", "required", named])
    return {**asked, "parallel_tool_calls": rng.random() < 0.3}


def thinking(number: int) -> Json:
    """Return a request to a model that thinks; some with tools, some without thoughts."""
    rng = random.Random(f"thinking{number}")
    if number % 3 == 0:
        asked = body("hermes", number * 5 + 2)
        return {**asked, "max_tokens": 2 * MOST_TOKENS}
    messages: list[Json] = []
    if number % 4 == 1:
        thought = {"reasoning_content": said(rng, 5)} if number % 8 == 1 else {}
        messages += [
            {"role": "user", "content": said(rng, 6)},
            {"role": "assistant", "content": said(rng, 4), **thought},
        ]
    messages.append({"role": "user", "content": said(rng, rng.randint(8, 30))})
    asked = {"model": "tiny", "temperature": 0.0, "max_tokens": MOST_TOKENS, "messages": messages}
    if number % 5 == 0:
        asked["chat_template_kwargs"] = {"enable_thinking": False}
    return asked


def said(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(LEXICON) for _ in range(words))


def schema(rng: random.Random) -> Json:
    """Return a schema that any model can satisfy within few tokens."""
    kinds: list[Json] = [
        {"enum": rng.sample(LEXICON, 3)},
        {"type": "boolean"},
        {"type": "null"},
        {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
        {"type": "string", "pattern": "^[ab]{1,4}$"},
    ]
    fields = {f"f{n}": rng.choice(kinds) for n in range(rng.randint(1, 4))}
    return {
        "type": "object",
        "properties": fields,
        "required": [*fields],
        "additionalProperties": False,
    }


def wrong(text: str, rng: random.Random) -> str:
    """Return a draft of the text that is right, half right, or breaks the grammar."""
    place = rng.randrange(1, len(text))
    endings = (text[place:], text[place:][::-1], " and more of it", "}}}}")
    return text[:place] + rng.choice(endings)


def form(number: int) -> tuple[Json, Json]:
    """Return a seeded request for an answer in a form, and its schema."""
    rng = random.Random(number)
    wanted = schema(rng)
    asked: Json = {"model": "tiny", "temperature": 0.0, "max_tokens": 200}
    asked["messages"] = [{"role": "user", "content": said(rng, 12)}]
    told = {"name": "f", "schema": wanted}
    return {**asked, "response_format": {"type": "json_schema", "json_schema": told}}, wanted
