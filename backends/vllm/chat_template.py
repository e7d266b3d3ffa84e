"""A model's chat template at work: turns as it wants them, and what is done where it refuses them.

Owns how messages become the dictionaries that templates read, and the tools that a template without
a place for them is told of in words. Knows no tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

from msgspec.structs import replace

from ..base import Message, Role, ToolCall
from ..errors import PromptRejected
from ..folding import join_neighbours

Json = dict[str, Any]
Content = Callable[[Message], str | list[dict[str, str]]]
MISTRAL_ID_LENGTH = 9
_PROBE = "livemind_probe"
_PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": _PROBE,
        "description": "x",
        "parameters": {"type": "object", "properties": {}},
    },
}
_TOOLS_IN_WORDS = """You may call functions. Their signatures are within <tools></tools>:
<tools>
{tools}
</tools>
To call one, write its name and arguments as JSON within <tool_call></tool_call>:
<tool_call>
{{"name": <function-name>, "arguments": <arguments-as-json>}}
</tool_call>"""


RESERVED = frozenset(
    {
        "add_generation_prompt",
        "chat_template",
        "continue_final_message",
        "conversation",
        "max_length",
        "messages",
        "padding",
        "return_assistant_tokens_mask",
        "return_dict",
        "return_tensors",
        "tokenize",
        "tokenizer_kwargs",
        "tools",
        "truncation",
    }
)
"""Arguments of ``apply_chat_template`` that are nothing of the template's."""


class ChatTemplate:
    """Renders for one tokenizer.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        expert_id: for error messages.
        content: what a template is given as a message's content.

    Attributes:
        knows_tools: the template has a place for tools; else they are described in the system
            message, and what they returned is told by the user.
        leaves_system: the first system message stands where it was put. Templates drop it, refuse
            it, or move it to the last question, where it costs the whole prefix at every turn; the
            user says it before the first question then.
    """

    def __init__(self, tokenizer: Any, expert_id: str, content: Content) -> None:
        self._tokenizer = tokenizer
        self._expert_id = expert_id
        self._content = content
        self.knows_tools = self._probe_tools()
        self.leaves_system = self._probe_system()

    def text(self, messages: Sequence[Message], options: Mapping[str, Any], *, closed: bool) -> str:
        """Return the conversation as the model reads it, with a generation prompt where ``closed``.

        Args:
            messages: without LiveMind's own roles.
            options: what the template is given beside them.
            closed: the answer comes next; else the text ends where the last message does.

        Raises:
            PromptRejected: the template takes it in no form; with its own words.
        """
        if not self.knows_tools:
            messages = _tools_in_words(messages, options.get("tools"))
        cause: Exception | None = None
        lossy: str | None = None
        for told in _forms(messages, leaves_system=self.leaves_system):
            try:
                text = self._apply(told, options, closed)
            except Exception as error:  # a template is a program and raises what it likes
                cause = cause or error
                continue
            if not _loses_instruction(told, text):
                return text
            lossy = text if lossy is None else lossy
        if lossy is not None:
            return lossy
        assert cause is not None
        words = " ".join(str(cause).split())[:200]
        message = f"the model's chat template refuses this conversation: {words}"
        raise PromptRejected(self._expert_id, message, param="messages") from cause

    def _apply(self, messages: Sequence[Message], options: Mapping[str, Any], closed: bool) -> str:
        turns = [self._turn(message) for message in messages]
        given = template_arguments(options)
        text: str = self._tokenizer.apply_chat_template(
            turns, options.get("tools"), tokenize=False, add_generation_prompt=closed, **given
        )
        return text

    def _turn(self, message: Message) -> Json:
        turn: Json = {"role": message.role, "content": self._content(message)}
        details = message.details
        if details.name is not None:
            turn["name"] = details.name
        if details.tool_call_id is not None:
            turn["tool_call_id"] = details.tool_call_id
        if details.reasoning is not None:
            turn["reasoning_content"] = turn["reasoning"] = details.reasoning
        if details.tool_calls:
            turn["tool_calls"] = [_call(call) for call in details.tool_calls]
        return turn

    def _probe_system(self) -> bool:
        """Whether a system message stands before the first question, in a talk of two turns."""
        said = [f"{_PROBE}_{number}" for number in range(4)]
        roles: tuple[Role, ...] = ("system", "user", "assistant", "user")
        talk = [Message(role, text) for role, text in zip(roles, said, strict=True)]
        try:
            text = self._apply(talk, {}, closed=True)
        except Exception:  # it raises what it likes
            return False
        return said[0] in text.partition(said[1])[0]

    def _probe_tools(self) -> bool:
        turns = [{"role": "user", "content": "x"}]
        try:
            text = self._tokenizer.apply_chat_template(turns, tokenize=False, tools=[_PROBE_TOOL])
        except Exception:  # it raises what it likes
            return False
        return _PROBE in text


def template_arguments(options: Mapping[str, Any]) -> Json:
    """Return what a template is given by name, as vLLM's server gives it: effort means thinking."""
    given = dict(options.get("chat_template_kwargs") or {})
    effort = options.get("reasoning_effort")
    if effort is not None:
        given.setdefault("enable_thinking", effort != "none")
        given["reasoning_effort"] = effort
    return {name: value for name, value in given.items() if name not in RESERVED}


def _call(call: ToolCall) -> Json:
    """Return a call as templates read it: arguments as an object, as a text if they are none."""
    arguments: Any = call.arguments
    with suppress(ValueError):
        arguments = json.loads(call.arguments) if call.arguments else {}
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": arguments},
    }


def _forms(messages: Sequence[Message], *, leaves_system: bool) -> Iterator[Sequence[Message]]:
    """Yield the conversation in the forms in which a template may take it, the given one first."""
    if not leaves_system and messages[0].role == "system":
        told = [replace(messages[0], role="user"), *messages[1:]]
        messages = [*join_neighbours(told[:2]), *told[2:]]
    yield messages
    short = [_with_short_ids(message) for message in messages]
    if short != list(messages):
        yield short
    joined = join_neighbours(short)
    if len(joined) < len(messages):
        yield joined
    for first in (1, 0):
        told = join_neighbours([_told_by_user(m, n >= first) for n, m in enumerate(short)])
        if told != joined:
            yield told
        if told[0].role == "assistant":  # a greeting; such a template begins with the user
            yield [Message("user", ""), *told]


def _told_by_user(message: Message, is_told: bool) -> Message:
    """Let the user say what the system says."""
    return replace(message, role="user") if is_told and message.role == "system" else message


def _loses_instruction(messages: Sequence[Message], text: str) -> bool:
    """Whether the template drops what the system says, or a question."""
    said = [m.content.strip() for m in messages if m.role in ("system", "user")]
    return any(content not in text for content in said)


def _with_short_ids(message: Message) -> Message:
    """Return the message with ids of nine letters: Mistral's templates take no others."""
    details = message.details
    calls = tuple(replace(call, id=_short(call.id)) for call in details.tool_calls)
    known = details.tool_call_id
    answered = _short(known) if known is not None else None
    if calls == details.tool_calls and answered == known:
        return message
    return replace(message, details=replace(details, tool_calls=calls, tool_call_id=answered))


def _short(call_id: str) -> str:
    if len(call_id) == MISTRAL_ID_LENGTH and call_id.isalnum():
        return call_id
    return sha256(call_id.encode()).hexdigest()[:MISTRAL_ID_LENGTH]


def _tools_in_words(messages: Sequence[Message], tools: Any) -> list[Message]:
    """Return the conversation for a template that knows neither tools nor what they return."""
    told = []
    for message in messages:
        calls = message.details.tool_calls
        if message.role == "tool":
            text = f"<tool_response>\n{message.content}\n</tool_response>"
            told.append(Message("user", text))
        elif calls:
            texts = [message.content] if message.content else []
            texts += [f"<tool_call>\n{_in_words(call)}\n</tool_call>" for call in calls]
            told.append(replace(message, content="\n".join(texts)))
        else:
            told.append(message)
    if not tools:
        return told
    listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
    text = _TOOLS_IN_WORDS.format(tools=listed)
    if told and told[0].role == "system":
        told[0] = replace(told[0], content=f"{told[0].content}\n\n{text}")
    else:
        told.insert(0, Message("system", text))
    return told


def _in_words(call: ToolCall) -> str:
    return json.dumps(_call(call)["function"], ensure_ascii=False)
