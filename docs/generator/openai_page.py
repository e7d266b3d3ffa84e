"""Writes docs/openai.md: what the OpenAI doors take, with the table that the server itself uses."""

from __future__ import annotations

from livemind.orchestrator.server.openai.neutral import NEUTRAL, shown

HEAD = """# OpenAI's API

| path | |
|---|---|
| `POST /v1/chat/completions` | conversations: whole or streamed, tools, forms, `n` answers |
| `POST /v1/responses` | the same turn in the names of the Responses API; `GET`, `DELETE` `/v1/responses/{id}`, `POST …/cancel`, `GET …/input_items` |
| `ws /v1/responses` | the same on one connection (`responses.connect`): frames `response.create`, answered by the events of a stream as JSON, or by `error`. Lanes by `stream_id` are answered side by side, at most 16 with 16 waiting frames each; `generate: false` only brings a prompt into the cache; the last response of a lane can be followed up with `store: false`. `response.steer` is refused |
| `POST /v1/completions` | plain prompts: a text, a list of texts, token ids; `echo` with `logprobs` and `max_tokens: 0` scores |
| `POST /v1/embeddings` | vectors of texts, or of the encoder's own tokens, from the encoder that routing uses (`float`, `base64`, `dimensions`); there is one with several experts or `rag.enabled`. Of a text its first 256 tokens count, which `usage` tells |
| `POST /v1/rerank` (`/rerank`, `/v2/rerank`) | `query`, `documents`, `top_n`: documents by the cosine of their vectors with the query's |
| `POST /v1/score` (`/score`) | `text_1`, `text_2` (or `queries` and `documents` or `items`): the cosines of pairs |
| `POST /tokenize`, `/detokenize` | the tokens of a `prompt` or of a whole chat request (`return_token_strs`), and back, by the expert's own tokenizer; not of remote experts. `GET /tokenizer_info` (`?model=`): how it is set |
| `GET /v1/models` | `auto` (routed) first, then every expert |

The base URL is `http://HOST:8000/v1`; without `server.api_keys` any key will do.

## Messages

Every field of the API's own message objects is taken, null, absent or empty: an answer that the server gave can be sent
back as it is. `name`, `tool_calls`, `tool_call_id` and `reasoning_content` reach the model's chat template. A
conversation may end with any role; one that ends with the assistant's gets another answer, unless
`continue_final_message` asks for the rest of it. A template that refuses a conversation is told it in another form:
neighbours of one role joined, later instructions said by the user, ids of calls in nine letters.

## Tools

`tools`, `tool_choice` (`auto`, `none`, `required`, a function, `allowed_tools`) and `parallel_tool_calls`. In this process the
model's own chat template is given the tools and one of vLLM's parsers reads the calls (`experts[].tool_parser`; unset,
it is told from the template's marks); `required` and a named function are forced through a grammar. A template without a place
for tools is told of them in words, in Hermes' form. Remote experts are passed everything. A whole answer is what a stream of it
adds up to: arguments stand as the model wrote them (`vllm serve` writes those of whole answers anew), and a call that the limit
cuts is an unfinished call with `finish_reason` `length`, as OpenAI has it, where `vllm serve` gives its text.

## Forms

`response_format` (`json_object`, `json_schema`) and vLLM's `structured_outputs` (`json`, `json_object`, `regex`, `choice`, `grammar`,
`structural_tag`), together with verified drafts too.

## Reasoning

With `experts[].reasoning_parser` (vLLM's names: `qwen3`, `deepseek_v3`, …) thoughts come as `reasoning_content`, apart from the
text. `reasoning_effort` and `chat_template_kwargs` reach the template as `vllm serve` gives them.

## Lengths

A `max_tokens`, `max_completion_tokens` or `max_output_tokens` that does not fit the context is refused by the name that was sent. It is an
upper bound for the model `auto`, with `max_tokens_policy: "clamp"` in a request, and with `server.max_tokens_policy` `clamp`.

## Values that ask for nothing

Fields that the server does not act on are taken with a value that asks for nothing; what would change the answer is refused
by name. Null is taken everywhere.

| field | what it is | taken beside null |
|---|---|---|
"""


def page() -> str:
    """Return the page."""
    rows = [f"| `{name}` | {row.means} | {_taken(row.values)} |" for name, row in NEUTRAL.items()]
    return HEAD + "\n".join(rows) + "\n"


def _taken(values: tuple[object, ...] | None) -> str:
    if values is None:
        return "any"
    return ", ".join(f"`{shown(value)}`" for value in values) or "nothing"


if __name__ == "__main__":
    print(page(), end="")
