"""What a chat template is told, and the forms in which a refused conversation is told again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from livemind.backends.base import Message, MessageDetails, ToolCall
from livemind.backends.errors import PromptRejected
from livemind.backends.vllm.render import Renderer

HEADERS = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
ALTERNATING = (
    "{% for m in messages %}{% if m['role'] not in ('user', 'assistant') or"
    " (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('take turns') }}"
    "{% endif %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endfor %}"
)
DROPPING = (
    "{% for m in messages %}{% if m['role'] != 'system' or loop.first %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}{% endif %}{% endfor %}"
)
TOOLS = (
    "{% if tools %}{{ '[TOOLS]' + tools | tojson + '[/TOOLS]' }}{% endif %}"
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}"
    "{% if m.name %}{{ '(' + m.name + ')' }}{% endif %}"
    "{% if m.reasoning_content %}{{ '<think>' + m.reasoning_content + '</think>' }}{% endif %}"
    "{% for c in m.tool_calls or [] %}{{ c.id + ':' + c.function.name }}"
    "{% for k, v in c.function.arguments.items() %}{{ '|' + k + '=' + v | string }}{% endfor %}"
    "{% endfor %}"
    "{% if m.role == 'tool' %}{{ m.tool_call_id + '=' }}{% endif %}"
    "{{ m.content + '<|end|>' }}{% endfor %}"
)
SHORT_IDS = (
    "{% for m in messages %}{% for c in m.tool_calls or [] %}{% if c.id | length != 9 %}"
    "{{ raise_exception('ids have nine letters') }}{% endif %}{{ c.id }}{% endfor %}"
    "{% if m.role == 'tool' %}{% if m.tool_call_id | length != 9 %}"
    "{{ raise_exception('ids have nine letters') }}{% endif %}{{ m.tool_call_id }}{% endif %}"
    "{{ m.content }}{% endfor %}{# tools #}{{ tools | tojson if tools }}"
)
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALLED = MessageDetails(tool_calls=(ToolCall("call_1", "weather", '{"city": "Bern"}'),))
TALK = (
    Message("user", "hot?"),
    Message("assistant", "", details=CALLED),
    Message("tool", "12", details=MessageDetails(tool_call_id="call_1")),
)

Make = Callable[..., Any]


@pytest.fixture
def told(hf_tokenizer: Make) -> Callable[..., str]:
    """Return what a model with this template reads of a conversation."""

    def text(template: str, *messages: Message) -> str:
        tokenizer = hf_tokenizer("gpt2_like", template)
        renderer = Renderer(tokenizer, expert_id="x", max_model_len=4096)
        prompt = renderer.render(messages, open_turn=False)
        shown: str = tokenizer.decode(prompt.token_ids, skip_special_tokens=False)
        return shown

    return text


def test_template_gets_tools_calls_results_names_and_thoughts(told: Any) -> None:
    options = Message("template", '{"tools": [{"function": {"name": "weather"}}]}')
    text = told(
        TOOLS,
        options,
        Message("user", "hot?", details=MessageDetails(name="ann")),
        Message("assistant", "", details=CALLED),
        TALK[2],
        Message("assistant", "mild", details=MessageDetails(reasoning="12 is mild")),
        Message("user", "ok"),
    )
    assert "[TOOLS]" in text
    assert "weather" in text.partition("[/TOOLS]")[0]
    assert "(ann)hot?" in text
    assert "call_1:weather|city=Bern" in text
    assert "call_1=12" in text
    assert "<think>12 is mild</think>mild" in text


def test_template_without_tools_is_told_of_them_in_words(told: Any) -> None:
    options = Message("template", '{"tools": [{"function": {"name": "weather"}}]}')
    text = told(HEADERS, options, Message("system", "Be kind."), *TALK)
    head = text.partition("<|end|>")[0]
    assert "Be kind." in head
    assert '{"function": {"name": "weather"}}' in head
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>' in text
    assert "<|user|><tool_response>\n12\n</tool_response>" in text


def test_template_that_wants_turns_gets_instructions_from_the_user(told: Any) -> None:
    text = told(
        ALTERNATING,
        Message("system", "a"),
        Message("user", "b"),
        Message("assistant", "c"),
        Message("system", "greet"),
    )
    assert "<|user|>a\n\nb<|end|>" in text
    assert text.endswith("<|user|>greet<|end|>")


def test_template_that_drops_later_instructions_does_not_lose_them(told: Any) -> None:
    text = told(
        DROPPING, Message("user", "b"), Message("assistant", "c"), Message("system", "Greet.")
    )
    assert text.endswith("<|user|>Greet.<|end|>")


TURN = "{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}"
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] != 'system' %}" + TURN + "{% endif %}{% endfor %}"
)
SYSTEM_LAST = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] + '\n\n' %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}"
    "{% for m in messages %}{% if loop.last and m['role'] == 'user' %}"
    "{{ '<|user|>' + system + m['content'] + '<|end|>' }}{% else %}"
    + TURN
    + "{% endif %}{% endfor %}"
)


@pytest.mark.parametrize("template", [NO_SYSTEM, SYSTEM_LAST, ALTERNATING])
def test_template_that_drops_moves_or_refuses_the_system_message_is_told_it_by_the_user(
    told: Any, template: str
) -> None:
    talk = [Message("system", "Be kind."), Message("user", "one")]
    first = told(template, *talk)
    assert first == "<|user|>Be kind.\n\none<|end|>"
    second = told(template, *talk, Message("assistant", "yes"), Message("user", "two"))
    assert second == f"{first}<|assistant|>yes<|end|><|user|>two<|end|>"
    alone = told(template, Message("system", "Greet."))
    assert alone == "<|user|>Greet.<|end|>"


def test_template_that_begins_with_the_user_takes_a_greeting(told: Any) -> None:
    text = told(ALTERNATING, Message("assistant", "Hello!"), Message("user", "hi"))
    assert text == "<|user|><|end|><|assistant|>Hello!<|end|><|user|>hi<|end|>"


def test_template_with_short_ids_gets_calls_and_results_that_belong_together(told: Any) -> None:
    text = told(SHORT_IDS, *TALK)
    first = text.removeprefix("hot?")[:9]
    assert first.isalnum()
    assert text == f"hot?{first}{first}12"


def test_template_that_refuses_every_form_says_so_in_its_own_words(told: Any) -> None:
    with pytest.raises(PromptRejected, match="never"):
        told("{{ raise_exception('never') if messages }}", Message("user", "x"))


def test_arguments_that_are_no_json_are_shown_as_they_are(told: Any) -> None:
    details = MessageDetails(tool_calls=(ToolCall("call_1", "weather", "{oops"),))
    text = told(
        "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.arguments }}"
        "{% endfor %}{{ m.content }}{% endfor %}{{ tools | tojson if tools }}",
        Message("user", "x"),
        Message("assistant", "", details=details),
        Message("user", "y"),
    )
    assert "{oops" in text


def test_answer_of_the_assistant_is_gone_on_with_unless_another_is_wanted(told: Any) -> None:
    said = (Message("user", "x"), Message("assistant", "y"))
    assert told(HEADERS, *said).endswith("<|assistant|>y")
    another = Message("template", '{"add_generation_prompt": true}')
    assert told(HEADERS, another, *said).endswith("y<|end|><|assistant|>")
    bare = Message("template", '{"add_generation_prompt": false}')
    assert told(HEADERS, bare, said[0]).endswith("x<|end|>")
