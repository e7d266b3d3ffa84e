"""Chat templates of the kinds that are published, and what is said of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livemind.backends.doctor.template_checks import Template, chat_template, judge
from livemind.orchestrator.cli import entry

from .conftest import make_model, small_config

PLAIN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ m.tool_calls }}{% endfor %}"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
DROPS = (
    "{% for m in messages if m.role != 'system' %}[{{ m.content }}{{ m.tool_calls }}]{% endfor %}"
)
MOVES = (
    "{% for m in messages if m.role != 'system' %}"
    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}"
    "[{{ m.content }}{{ m.tool_calls }}]{% endfor %}"
)
ALTERNATES = (
    "{% for m in messages if m.role != 'tool' %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) and messages[0].role != 'system' %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}[{{ m.content }}]{% endfor %}"
)
NO_THOUGHTS = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content.split('</think>')[-1] }}"
    "{{ m.tool_calls }}{% endfor %}"
)
DATED = "{{ strftime_now('%d %B %Y') }}" + PLAIN


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (PLAIN, {}),
        (NO_SYSTEM + PLAIN, {"template_system": "refuses a system message: no system"}),
        (DROPS, {"template_system": "drops the system message"}),
        (MOVES, {"template_system": "keeps only 0% of the prompt"}),
        (
            ALTERNATES,
            {
                "template_users": "roles must alternate",
                "template_tools": "drops what a tool returned",
            },
        ),
        (NO_THOUGHTS, {"template_reasoning": "drops the reasoning"}),
        (DATED, {"template_date": "midnight"}),
        ("{{ raise_exception('never') }}", {"chat_template_broken": "never"}),
    ],
    ids=["plain", "refuses", "drops", "moves", "alternates", "thoughts", "dated", "never"],
)
def test_template_is_told_what_it_does_to_a_conversation(
    source: str, found: dict[str, str]
) -> None:
    told = dict(judge(Template(source)))
    assert told.keys() == found.keys()
    assert all(part in told[code] for code, part in found.items())


def test_template_is_found_in_each_of_its_places(tmp_path: Path) -> None:
    assert chat_template(tmp_path) is None
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert chat_template(tmp_path) == "a"
    (tmp_path / "chat_template.jinja").write_text("c")
    assert chat_template(tmp_path) == "c"


def test_check_tells_of_a_template_and_refuses_a_broken_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_model(tmp_path / "model", small_config())
    file = tmp_path / "c.json"
    file.write_text('{"experts": [{"expert_id": "a", "model_path": "./model"}]}')
    words = ["check", str(file), "--json", "--memory", "16GiB"]
    for source, code, status in ((DROPS, "template_system", 0), ("{% if", "template_broken", 1)):
        (folder / "chat_template.jinja").write_text(source)
        assert entry.main(words) == status
        codes = {one["code"] for one in json.loads(capsys.readouterr().out)["findings"]}
        assert any(one.endswith(code) for one in codes)
