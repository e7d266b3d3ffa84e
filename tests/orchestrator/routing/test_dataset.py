"""The prompt set keeps what docs/routing.md promises."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from livemind.orchestrator.routing.dataset import DOMAINS, load_prompts, load_terms, prefixes

PROMPTS = load_prompts()


@pytest.mark.parametrize("domain", DOMAINS)
def test_dataset_every_domain_has_enough_prompts_in_both_languages(domain: str) -> None:
    languages = Counter(prompt.language for prompt in PROMPTS if prompt.domain == domain)
    assert languages.total() >= 200
    assert min(languages["en"], languages["es"]) >= 50


def test_dataset_multilingual_has_at_least_eight_languages() -> None:
    languages = {prompt.language for prompt in PROMPTS if prompt.domain == "multilingual"}
    assert len(languages) >= 8


def test_dataset_no_family_and_no_text_lies_in_two_splits() -> None:
    splits = defaultdict(set)
    for prompt in PROMPTS:
        splits[prompt.family].add(prompt.split)
        splits[prompt.text.casefold()].add(prompt.split)
    assert [name for name, found in splits.items() if len(found) > 1] == []


def test_dataset_no_term_is_a_held_out_prompt() -> None:
    asked = {prompt.text.casefold() for prompt in load_prompts("test")}
    assert not [term for _, _, term in load_terms() if term.casefold() in asked]


def test_prefixes_of_a_text_grow_word_by_word() -> None:
    assert prefixes(" a  b\nc ") == ["a", "a b", "a b c"]
