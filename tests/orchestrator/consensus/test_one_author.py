"""What several experts cannot share: calls, forms, thoughts, tokens by their number."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from livemind.backends.base import Chunk, GenerationParams, Message, StructuredOutput
from livemind.backends.errors import ExpertUnavailable
from livemind.backends.fake import FakeExpert
from livemind.backends.messages import ToolCall
from livemind.orchestrator.consensus.canonical import canonical_calls
from livemind.orchestrator.consensus.options import Consensus
from livemind.orchestrator.session import SessionOptions

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {}}}
TOOLS = json.dumps({"tools": [WEATHER]})
VERIFY = SessionOptions(
    pinned="strong", consensus=Consensus("verify", deadline_s=1.0, gate="every"), speculation="off"
)
VOTE = replace(VERIFY, consensus=Consensus("vote", deadline_s=1.0))


def call(city: str, said: str = "") -> str:
    return f'{said}<tool_call>{{"name": "weather", "arguments": {{"city": "{city}"}}}}</tool_call>'


def expert(name: str, text: str, **given: Any) -> FakeExpert:
    """Answer with a text; asked to judge, say yes."""

    def answer(messages: Sequence[Message]) -> str:
        return "A" if "«" in messages[-1].content else text

    return FakeExpert(name, answer=answer, **given)


class Thinker(FakeExpert):
    """Thinks before it answers."""

    async def generate(self, prompt: Any, params: Any, **given: Any) -> AsyncGenerator[Chunk, None]:
        if "«" not in prompt.messages[-1].content:
            for word in ("so", " it", " is. ", *["hm "] * 30):
                yield Chunk("", (1,), reasoning=word)
        async for chunk in super().generate(prompt, params, **given):
            yield chunk


async def one_turn(
    live: SimpleNamespace, experts: Sequence[FakeExpert], options: SessionOptions
) -> tuple[list[Any], Any]:
    async with live.open_stage(*experts) as stage, stage.session(options) as session:
        seen = await live.answer(session, "what is the weather?")
        return seen, live.done_of(seen)


@pytest.mark.parametrize("options", [VERIFY, VOTE], ids=["verify", "vote"])
@pytest.mark.parametrize("said", ["", "let me look. "], ids=["call alone", "text before"])
def test_consensus_with_tools_answers_with_the_call(
    virtual_run: Any, live: SimpleNamespace, options: SessionOptions, said: str
) -> None:
    experts = expert("fast", call("Oslo", said)), expert("strong", call("Rome", said))
    seen, done = virtual_run(one_turn(live, experts, replace(options, template=TOOLS)))
    (made,) = done.tool_calls
    assert (made.name, json.loads(made.arguments)) == ("weather", {"city": "Rome"})
    assert (done.finish_reason, live.text_of(seen)) == ("tool_calls", said.strip())


def test_vote_of_two_that_call_alike_outweighs_the_leader(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    experts = expert("third", call("Oslo")), expert("fast", call("Oslo")), expert("strong", "sun")
    _, done = virtual_run(one_turn(live, experts, replace(VOTE, template=TOOLS)))
    (span,) = done.consensus.spans
    assert {vote.choice for vote in span.votes} == {'weather({"city":"Oslo"})', "sun"}
    assert json.loads(done.tool_calls[0].arguments) == {"city": "Oslo"}


def test_verify_with_tools_and_no_routed_expert_is_answered_by_the_fast_one(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    strong = expert("strong", "sun")
    strong.start_error = ExpertUnavailable("strong", "no memory")
    experts = expert("fast", call("Oslo")), strong

    async def turn() -> Any:
        async with (
            live.open_stage(*experts, warm=["fast"]) as stage,
            stage.session(replace(VERIFY, template=TOOLS)) as session,
        ):
            return live.done_of(await live.answer(session, "weather?"))

    done = virtual_run(turn())
    assert [made.name for made in done.tool_calls] == ["weather"]
    assert [span.author for span in done.consensus.spans] == ["fast"]


@pytest.mark.parametrize(
    ("template", "params"),
    [
        (None, GenerationParams(structured=StructuredOutput(json_object=True))),
        ('{"add_generation_prompt": true}', GenerationParams()),
        ('{"continue_final_message": true}', GenerationParams()),
        (None, GenerationParams(logit_bias=((7, 1.0),))),
        (None, GenerationParams(stop_token_ids=(7,))),
    ],
    ids=["form", "generation prompt", "continued", "bias", "stop tokens"],
)
def test_verify_of_what_cannot_be_shared_has_the_routed_expert_as_author_and_says_why(
    virtual_run: Any, live: SimpleNamespace, template: str | None, params: GenerationParams
) -> None:
    experts = expert("fast", "quick words"), expert("strong", "slow words")
    foreign(experts[0])
    options = replace(VERIFY, template=template, params=params)
    seen, done = virtual_run(one_turn(live, experts, options))
    assert live.text_of(seen) == "slow words"
    assert [entry.expert for entry in done.consensus.abstained] == ["fast"]
    assert done.consensus.abstained[0].reason


def foreign(fake: FakeExpert) -> None:
    """Give it a tokenizer of its own."""
    fake._capabilities = replace(fake.capabilities, tokenizer_id="another")


def test_vote_with_tokens_by_number_leaves_out_who_has_another_tokenizer(
    virtual_run: Any, live: SimpleNamespace
) -> None:
    fast, third, strong = expert("fast", "5"), expert("third", "5"), expert("strong", "4")
    foreign(fast)
    foreign(third)
    options = replace(VOTE, params=GenerationParams(logit_bias=((7, 1.0),)))
    seen, done = virtual_run(one_turn(live, (fast, third, strong), options))
    assert live.text_of(seen) == "4"
    reasons = {entry.expert: entry.reason for entry in done.consensus.abstained}
    assert reasons == dict.fromkeys(("fast", "third"), "logit_bias: another tokenizer")


@pytest.mark.parametrize("options", [VERIFY, VOTE], ids=["verify", "vote"])
def test_consensus_keeps_the_thoughts_of_the_author(
    virtual_run: Any, live: SimpleNamespace, options: SessionOptions
) -> None:
    experts = (
        Thinker("fast", answer=lambda said: "A" if "«" in said[-1].content else "yes"),
        (Thinker("strong", answer=lambda said: "A" if "«" in said[-1].content else "yes")),
    )
    seen, _ = virtual_run(one_turn(live, experts, options))
    thoughts = "".join(e.delta for e in seen if type(e).__name__ == "ResponseReasoningDelta")
    assert thoughts == "so it is. " + "hm " * 30
    assert live.text_of(seen) == "yes"


def test_calls_read_alike_whatever_their_order() -> None:
    one, two = ToolCall("a", "f", '{"x": 1, "y": 2.0}'), ToolCall("b", "g", "")
    same = ToolCall("c", "f", '{"y":2,"x":1}')
    assert canonical_calls([one, two]) == canonical_calls([two, same]) == 'f({"x":1,"y":2}) g({})'
    assert canonical_calls([ToolCall("a", "f", '{"x": ')]) is None
