"""Rendering: the open-turn prefix property per tokenizer, folding, limits, the piece cache."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tokenizers import AddedToken

from livemind.backends import zoo
from livemind.backends.base import Image, Message
from livemind.backends.errors import PromptRejected
from livemind.backends.folding import fold_documents
from livemind.backends.vllm.render import Renderer

MakeTokenizer = Callable[..., Any]
QUIET = [HealthCheck.function_scoped_fixture]  # the fixtures are session-scoped and unchanged
NAMES = ("gpt2_like", "llama3_like", "llama2_like", "unigram", "wordpiece", "embedded")
HEADERS = (
    "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] | trim + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
TEMPLATES = {"headers": HEADERS, "plain": PLAIN}

pieces = st.sampled_from(
    [
        *"abcxyz019 .,;:!?'\"()-_/\n\t",
        *(
            " ",
            "  ",
            " the",
            "the ",
            "don't",
            "'ll",
            "I'",
            "\n\n",
            ".\n",
            " \n",
            "\r\n",
            "...",
            "12",
        ),
        *(
            "Größe",
            "é",
            "e\u0301",
            "答え",
            "。",
            "🙂",
            "\u00a0",
            "\u3000",
            "▁",
            "ﬁ",
            "<|",
            "<|end",
            "|>",
        ),
        *("<|end|>", "<|user|>", "def f(x):", "\ue000", "\ue000\ue001\ue000"),
    ]
)
texts = st.lists(pieces, max_size=12).map("".join)
HEAD = (Message("system", "You help. "), Message("user", "Hi.\n"), Message("assistant", "Yes?"))


@pytest.fixture(scope="session")
def renderer(hf_tokenizer: MakeTokenizer) -> Callable[..., Renderer]:
    @cache
    def make(name: str, template: str | None = None) -> Renderer:
        arguments = () if template is None else (TEMPLATES[template],)
        tokenizer = hf_tokenizer(name, *arguments)
        return Renderer(tokenizer, expert_id="e", max_model_len=100_000)

    return make


@pytest.mark.parametrize("template", [None, "headers", "plain"])
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
@given(partial=texts, rest=texts, after=st.booleans())
def test_render_open_turn_is_a_prefix_of_every_continuation(
    renderer: Callable[..., Renderer],
    name: str,
    template: str | None,
    partial: str,
    rest: str,
    after: bool,
) -> None:
    made = renderer(name, template)
    documents = Message("documents", "Passage one.\n\nPassage two.")
    opened = made.render([*HEAD, documents, Message("user", partial)], open_turn=True)
    final = [*HEAD, documents, Message("user", partial + rest)]
    final += [Message("documents", "late")] if after else []
    closed = made.render(final, open_turn=False)
    assert closed.token_ids[: opened.num_tokens] == opened.token_ids
    longer = made.render([*HEAD, documents, Message("user", partial + rest)], open_turn=True)
    kept = min(opened.num_tokens, longer.num_tokens)
    assert longer.token_ids[:kept] == opened.token_ids[:kept]


@pytest.mark.parametrize("template", [None, "headers", "plain"])
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
@given(system=texts, user=texts)
def test_render_in_pieces_equals_the_tokenizer_on_the_whole_text(
    renderer: Callable[..., Renderer],
    hf_tokenizer: MakeTokenizer,
    name: str,
    template: str | None,
    system: str,
    user: str,
) -> None:
    made = renderer(name, template)
    turns = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    tokenizer = hf_tokenizer(name) if template is None else hf_tokenizer(name, TEMPLATES[template])
    whole = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    expected = tuple(tokenizer(whole, add_special_tokens=False)["input_ids"])
    messages = [Message("system", system), Message("user", user)]
    assert made.render(messages, open_turn=False).token_ids == expected


@pytest.mark.parametrize("name", NAMES)
def test_render_open_turn_keeps_what_stands_before_the_growing_word(
    renderer: Callable[..., Renderer], hf_tokenizer: MakeTokenizer, name: str
) -> None:
    opened = renderer(name).render([Message("user", "what is the answ")], open_turn=True)
    kept = hf_tokenizer(name)("<|user|>what is the", add_special_tokens=False)["input_ids"]
    assert list(opened.token_ids[: len(kept)]) == kept
    assert opened.open_turn


@pytest.mark.parametrize("template", [None, "headers"])
@pytest.mark.parametrize("name", NAMES)
def test_render_begun_answer_goes_on_right_after_its_text(
    renderer: Callable[..., Renderer],
    hf_tokenizer: MakeTokenizer,
    name: str,
    template: str | None,
) -> None:
    made = renderer(name, template)
    asked = [*HEAD, Message("user", "what is it?")]
    begun = made.render([*asked, Message("assistant", "it is")], open_turn=False)
    fresh = made.render(asked, open_turn=False)
    assert begun.token_ids[: fresh.num_tokens] == fresh.token_ids
    tokens = hf_tokenizer(name).convert_ids_to_tokens(begun.token_ids[fresh.num_tokens :])
    assert re.sub(r"\W|_", "", "".join(tokens).replace("Ġ", "")) == "itis"
    assert not begun.open_turn


def test_render_open_turn_newlines_that_may_join_a_mark_are_dropped_with_it(
    renderer: Callable[..., Renderer], hf_tokenizer: MakeTokenizer
) -> None:
    opened = renderer("llama3_like").render([Message("user", "The end.\n\n")], open_turn=True)
    kept = hf_tokenizer("llama3_like")("<|user|>The end", add_special_tokens=False)["input_ids"]
    assert list(opened.token_ids) == kept


def test_render_open_turn_empty_text_ends_inside_the_users_turn(
    renderer: Callable[..., Renderer], hf_tokenizer: MakeTokenizer
) -> None:
    opened = renderer("gpt2_like").render([HEAD[0], Message("user", "")], open_turn=True)
    kept = hf_tokenizer("gpt2_like")("<|system|>You help. <|end|><|user|>")["input_ids"]
    assert list(opened.token_ids) == kept


def test_render_zoo_tokenizer_knows_documents_and_keeps_the_prefix() -> None:
    from transformers import PreTrainedTokenizerFast

    file = Path(zoo.__path__[0]) / "tokenizer.json"
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(file),
        eos_token="<|end|>",
        chat_template=(
            "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '<|end|>' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
        ),
    )
    made = Renderer(tokenizer, expert_id="e", max_model_len=2048)
    documents = Message("documents", "The capital of Mora is Lin.")
    text = "What is the capital of Mora, and how do you get there?\n\nThanks"
    final = made.render([documents, Message("user", text)], open_turn=False).token_ids
    assert tokenizer.decode(final).startswith("<|documents|>The capital")
    for end in range(len(text)):
        opened = made.render([documents, Message("user", text[:end])], open_turn=True)
        assert final[: opened.num_tokens] == opened.token_ids


def test_render_template_with_a_documents_role_gets_the_block_as_it_is(
    hf_tokenizer: MakeTokenizer,
) -> None:
    template = (
        "{% for m in messages %}{% if m['role'] == 'documents' %}CONTEXT: {{ m['content'] }}\n"
        "{% else %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endif %}{% endfor %}"
    )
    tokenizer = hf_tokenizer("gpt2_like", template)
    made = Renderer(tokenizer, expert_id="e", max_model_len=2048)
    prompt = made.render([Message("documents", "d"), Message("user", "q")], open_turn=False)
    assert tokenizer.decode(prompt.token_ids) == "CONTEXT: d\n<|user|>q"


ALTERNATING = (
    "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}"
)


def test_render_questions_in_a_row_are_one_for_a_template_that_wants_turns(
    hf_tokenizer: Any,
) -> None:
    """The answer to the first one was cancelled before its first word."""
    tokenizer = hf_tokenizer("gpt2_like", ALTERNATING)
    made = Renderer(tokenizer, expert_id="e", max_model_len=2048)
    said = [Message("user", "one"), Message("user", "two three")]
    whole = made.render(said, open_turn=False)
    assert tokenizer.decode(whole.token_ids) == "<|user|>one\n\ntwo three"
    partial = made.render([said[0], Message("user", "two thr")], open_turn=True)
    assert whole.token_ids[: partial.num_tokens] == partial.token_ids
    greeted = made.render([Message("assistant", "hello"), *said], open_turn=False)
    text = tokenizer.decode(greeted.token_ids)
    assert text == "<|user|><|assistant|>hello<|user|>one\n\ntwo three"


DOCS, USER, ANSWER = (
    Message("documents", "d"),
    Message("user", "u"),
    Message("assistant", "a"),
)


@pytest.mark.parametrize(
    ("messages", "folded"),
    [
        ([DOCS, USER], [Message("user", "d\n\nu")]),
        ([USER, DOCS], [Message("user", "u\n\nd")]),
        ([DOCS, USER, DOCS], [Message("user", "d\n\nu\n\nd")]),
        ([DOCS, DOCS, USER], [Message("user", "d\n\nd\n\nu")]),
        ([USER, DOCS, DOCS], [Message("user", "u\n\nd\n\nd")]),
        ([USER, ANSWER, DOCS, USER], [USER, ANSWER, Message("user", "d\n\nu")]),
        ([USER, DOCS, ANSWER], [Message("user", "u\n\nd"), ANSWER]),
        ([DOCS, ANSWER], [Message("user", "d"), ANSWER]),
        ([USER, ANSWER], [USER, ANSWER]),
    ],
)
def test_fold_documents_puts_the_block_beside_the_users_text(
    messages: list[Message], folded: list[Message]
) -> None:
    assert fold_documents(messages) == folded


def test_render_prompt_as_long_as_the_context_is_refused_with_both_numbers(
    hf_tokenizer: MakeTokenizer,
) -> None:
    tokenizer = hf_tokenizer("gpt2_like")
    message = [Message("user", "a a a a a a a a")]
    length = Renderer(tokenizer, expert_id="e", max_model_len=99).render(message, open_turn=False)
    assert Renderer(tokenizer, expert_id="e", max_model_len=length.num_tokens + 1).render(
        message, open_turn=False
    )
    short = Renderer(tokenizer, expert_id="e", max_model_len=length.num_tokens)
    with pytest.raises(PromptRejected) as caught:
        short.render(message, open_turn=False)
    assert (caught.value.param, caught.value.code) == ("messages", "context_length_exceeded")
    assert caught.value.message.count(str(length.num_tokens)) == 2
    with pytest.raises(PromptRejected) as caught:
        short.tokenize("a a a a a a a a a a a a a a a a")
    assert (caught.value.param, caught.value.code) == ("prompt", "context_length_exceeded")


@pytest.mark.parametrize(
    ("messages", "open_turn", "cause"),
    [([], False, "empty"), ([USER, ANSWER], True, "open turn"), ([DOCS], True, "open turn")],
)
def test_render_impossible_conversation_is_refused(
    renderer: Callable[..., Renderer], messages: list[Message], open_turn: bool, cause: str
) -> None:
    with pytest.raises(PromptRejected, match=cause) as caught:
        renderer("gpt2_like").render(messages, open_turn=open_turn)
    assert caught.value.param == "messages"


def test_render_template_refuses_the_roles_says_so(hf_tokenizer: MakeTokenizer) -> None:
    template = "{{ raise_exception('roles must alternate') }}"
    made = Renderer(hf_tokenizer("gpt2_like", template), expert_id="e", max_model_len=2048)
    with pytest.raises(PromptRejected, match="roles must alternate"):
        made.render([USER], open_turn=False)


def test_tokenize_empty_prompt_is_refused(renderer: Callable[..., Renderer]) -> None:
    with pytest.raises(PromptRejected) as caught:
        renderer("gpt2_like").tokenize("")
    assert caught.value.param == "prompt"


class Counting:
    """A tokenizer that writes down how long the texts are which it is given."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.lengths: list[int] = []

    def __call__(self, text: str, **settings: Any) -> Any:
        self.lengths.append(len(text))
        return self.tokenizer(text, **settings)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


def test_render_unchanged_head_is_tokenized_once(hf_tokenizer: MakeTokenizer) -> None:
    counting = Counting(hf_tokenizer("gpt2_like"))
    made = Renderer(counting, expert_id="e", max_model_len=100_000)
    for end in range(10):
        made.render([Message("system", "x " * 3000), Message("user", "a " * end)], open_turn=True)
    assert sum(length > 3000 for length in counting.lengths) == 1


def test_tokenizer_id_equal_only_for_equal_tokenizers(renderer: Callable[..., Renderer]) -> None:
    ids = {name: renderer(name).tokenizer_id for name in NAMES}
    assert len(set(ids.values())) == len(NAMES)
    assert renderer("unigram", "headers").tokenizer_id == ids["unigram"]


MARK = "<|system|>"  # any special token will do
IN_PARTS = (
    "{% for m in messages %}{{ m['role'] + ': ' }}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}{{ '<|system|>' }}{% else %}{{ p['text'] }}{% endif %}"
    "{% endfor %}{{ '\n' }}{% endfor %}"
)


@pytest.mark.parametrize("template", [PLAIN, IN_PARTS], ids=["strings", "parts"])
def test_render_image_has_one_mark_before_its_text(
    hf_tokenizer: MakeTokenizer, template: str
) -> None:
    tokenizer = hf_tokenizer("gpt2_like", template)
    renderer = Renderer(tokenizer, expert_id="e", max_model_len=1000, image_mark=MARK)
    images = (Image("image/png", b"a"), Image("image/png", b"b"))
    messages = [
        Message("user", "look", images),
        Message("assistant", "seen"),
        Message("user", "so"),
    ]
    prompt = renderer.render(messages, open_turn=False)
    mark = tokenizer.convert_tokens_to_ids(MARK)
    text = tokenizer.decode(prompt.token_ids)
    assert prompt.token_ids.count(mark) == 2
    assert text.rindex(MARK) < text.index("look") < text.index("seen")
    assert prompt.images == images


@pytest.mark.parametrize("template", [PLAIN, IN_PARTS], ids=["strings", "parts"])
@pytest.mark.parametrize("mark", [MARK, f"<|user|>{MARK}", "[IMAGE]"], ids=["one", "two", "text"])
def test_render_written_mark_is_text_and_no_place_of_an_image(
    hf_tokenizer: MakeTokenizer, mark: str, template: str
) -> None:
    """Whoever wrote it: a document, an answer, the user; also a part of a mark of two tokens."""
    tokenizer = hf_tokenizer("gpt2_like", template.replace(MARK, mark))
    renderer = Renderer(tokenizer, expert_id="e", max_model_len=1000, image_mark=mark)
    written = mark if mark == "[IMAGE]" else MARK
    messages = [
        Message("documents", f"of {written}{written}"),
        Message("user", "look", (Image("image/png", b"a"),)),
        Message("assistant", f"an {written}"),
        Message("user", f"a {written} b"),
    ]
    text = tokenizer.decode(renderer.render(messages, open_turn=False).token_ids)
    apart = f"{written[0]} {written[1:]}"
    assert text.count(written) == text.count(mark) == 1
    assert [part in text for part in (f"of {apart}{apart}", f"an {apart}", f"a {apart} b")] == [
        True,
        True,
        True,
    ]
    plain = tokenizer.decode(renderer.tokenize(f"a {written} b").token_ids)
    assert plain == f"a {apart} b"


@pytest.mark.parametrize("mark", [MARK, "[IMAGE]"], ids=["token", "text"])
def test_render_open_turn_in_which_a_mark_is_written_is_a_prefix_of_the_whole(
    hf_tokenizer: MakeTokenizer, mark: str
) -> None:
    tokenizer = hf_tokenizer("gpt2_like", PLAIN)
    renderer = Renderer(tokenizer, expert_id="e", max_model_len=1000, image_mark=mark)
    text = f"one {mark} two{mark}{mark} three four"
    whole = renderer.render([Message("user", text)], open_turn=False).token_ids
    longest: tuple[int, ...] = ()
    for end in range(len(text) + 1):
        part = renderer.render([Message("user", text[:end])], open_turn=True).token_ids
        assert part == whole[: len(part)]
        longest = max(longest, part, key=len)
    apart = f"{mark[0]} {mark[1:]}"
    assert f"one {apart} two{apart}{apart} three" in tokenizer.decode(longest)


def test_render_image_without_a_mark_is_refused(hf_tokenizer: MakeTokenizer) -> None:
    renderer = Renderer(hf_tokenizer("gpt2_like"), expert_id="e", max_model_len=1000)
    with pytest.raises(PromptRejected, match="'e' takes no images"):
        renderer.render([Message("user", "a", (Image("image/png", b"x"),))], open_turn=False)


@pytest.mark.parametrize("name", NAMES)
def test_renderer_encodes_as_it_renders_and_decodes_what_it_encoded(
    renderer: Callable[..., Renderer], hf_tokenizer: MakeTokenizer, name: str
) -> None:
    made, tokenizer = renderer(name), hf_tokenizer(name)
    said = [Message("user", "what is the answer")]
    ids = made.encode(said)
    assert ids == made.render(said, open_turn=False).token_ids
    assert made.decode(ids) == tokenizer.decode(list(ids))
    assert made.strings(ids) == tokenizer.convert_ids_to_tokens(list(ids))
    text = "the answer " * 3000  # beyond the context, as counting has no limit
    for special in (True, False):
        found = made.encode(text, add_special_tokens=special)
        assert list(found) == tokenizer(text, add_special_tokens=special)["input_ids"]
    with pytest.raises(PromptRejected) as caught:
        made.decode([len(tokenizer)])
    assert caught.value.param == "tokens"


def test_tokenizer_is_told_without_paths_and_as_json(hf_tokenizer: Any) -> None:
    tokenizer = hf_tokenizer("gpt2_like", "{{ messages[0].content }}")
    tokenizer.init_kwargs |= {"vocab_file": "/a/b", "extra": [AddedToken("<x>", special=True)]}
    told = Renderer(tokenizer, expert_id="x", max_model_len=64).info()
    assert told["chat_template"] == "{{ messages[0].content }}"
    assert told["tokenizer_class"] == type(tokenizer).__name__
    assert told["extra"] == ["<x>"]
    assert "/a/b" not in json.dumps(told)
