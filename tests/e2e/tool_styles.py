"""Tiny experts whose chat templates write tools as Qwen-, Llama-, Mistral- and Hermes-like ones do.

And one that thinks before it answers.

The weights are those of an embedded expert: its vocabulary has rows to spare, which the marks of a
template take.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from livemind.backends.engine_args import ZOO_MODELS

_TOOLS: Final = "{%- if tools %}"
_CHATML: Final = (
    "{%- for m in messages %}"
    "{%- if m.role == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + m.content"
    " + '\n</tool_response><|im_end|>\n' }}"
    "{%- else %}{{ '<|im_start|>' + m.role + '\n' + (m.content or '') }}CALLS"
    "{{ '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{%- endif %}"
)
_HERMES: Final = (
    _TOOLS
    + "{{ '<|im_start|>system\nYou may call these functions: <tools>' + (tools | tojson)"
    + ' + \'</tools> by <tool_call>{"name": …, "arguments": …}</tool_call><|im_end|>\n\' }}'
    + "{%- endif %}"
    + _CHATML.replace(
        "CALLS",
        "{%- for c in m.tool_calls or [] %}{{ '\n<tool_call>\n' + ({'name': c.function.name,"
        " 'arguments': c.function.arguments} | tojson) + '\n</tool_call>' }}{%- endfor %}",
    )
)
_QWEN: Final = (
    _TOOLS
    + "{{ '<|im_start|>system\n<tools>' + (tools | tojson) + '</tools> Call by <tool_call>"
    + "<function=NAME><parameter=NAME>value</parameter></function></tool_call>"
    + "<|im_end|>\n' }}{%- endif %}"
    + _CHATML.replace(
        "CALLS",
        "{%- for c in m.tool_calls or [] %}{{ '\n<tool_call>\n<function=' + c.function.name"
        " + '>\n' }}{%- for k, v in c.function.arguments.items() %}{{ '<parameter=' + k + '>\n'"
        " + (v | string) + '\n</parameter>\n' }}{%- endfor %}{{ '</function>\n</tool_call>' }}"
        "{%- endfor %}",
    )
)
_LLAMA: Final = (
    "{{ '<|begin_of_text|>' }}"
    + _TOOLS
    + "{{ '<|start_header_id|>system<|end_header_id|>\n\nFunctions: ' + (tools | tojson)"
    + " + '<|eot_id|>' }}{%- endif %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'tool' %}{{ '<|start_header_id|>ipython<|end_header_id|>\n\n' + m.content }}"
    "{%- elif m.tool_calls %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{%- for c in m.tool_calls %}{{ {'name': c.function.name, 'parameters':"
    " c.function.arguments} | tojson }}{%- endfor %}"
    "{%- else %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content }}"
    "{%- endif %}{{ '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{%- endif %}"
)
_MISTRAL: Final = (
    "{%- for m in messages %}"
    "{%- if m.role == 'user' %}{%- if tools and loop.last %}{{ '[AVAILABLE_TOOLS]' + (tools |"
    " tojson) + '[/AVAILABLE_TOOLS]' }}{%- endif %}{{ '[INST]' + m.content + '[/INST]' }}"
    "{%- elif m.role == 'tool' %}{{ '[TOOL_RESULTS]' + ({'content': m.content} | tojson)"
    " + '[/TOOL_RESULTS]' }}"
    "{%- elif m.tool_calls %}{%- for c in m.tool_calls %}"
    "{{ '[TOOL_CALLS]' + c.function.name + (c.function.arguments | tojson) }}{%- endfor %}"
    "{{ '<|end|>' }}"
    "{%- else %}{{ (m.content or '') + '<|end|>' }}{%- endif %}{%- endfor %}"
)
_THINKING: Final = (
    _HERMES.replace(
        "(m.content or '')",
        "('<think>\n' + m.reasoning_content + '\n</think>\n\n' if loop.last and"
        " m.reasoning_content else '') + (m.content or '')",
    )
    + "{%- if add_generation_prompt %}{{ '<think>\n\n</think>\n\n' if enable_thinking is defined"
    " and not enable_thinking else '<think>\n' }}{%- endif %}"
)
STYLES: Final[dict[str, tuple[str, str, tuple[str, ...]]]] = {
    "hermes": ("hermes", _HERMES, ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")),
    "qwen": ("qwen3_coder", _QWEN, ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")),
    "llama": (
        "llama3_json",
        _LLAMA,
        (
            *("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
            *("<|eot_id|>", "<|python_tag|>"),
        ),
    ),
    "mistral": (
        "mistral",
        _MISTRAL,
        (
            *("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
            *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[ARGS]", "[CALL_ID]"),
        ),
    ),
}
"""Parser in vLLM's registry, chat template, marks that are one token each."""


def write_style(folder: Path, style: str, zoo: str = "general") -> str:
    """Write a model folder of this style; return the name of its parser."""
    parser, template, marks = STYLES[style]
    _write(folder, template, marks, zoo)
    return parser


def write_thinking(folder: Path) -> str:
    """Write a model folder whose template opens thoughts; return the name of its tools' parser.

    They end where the model would end a sentence.
    """
    parser, _, marks = STYLES["hermes"]
    ids = _write(folder, _THINKING, (*marks, "<think>", "</think>"), "general")
    with _rows(folder) as rows:
        rows[ids["</think>"]] = rows[ids["."]] * 1.25
        rows[ids["<|end|>"]] = 0.0  # and an answer at its limit: it would stop right behind them
    return parser


@contextmanager
def _rows(folder: Path) -> Iterator[Any]:
    """Change the vectors of tokens, which are those of the output layer too."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    yield weights["model.embed_tokens.weight"]
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _write(folder: Path, template: str, marks: Sequence[str], zoo: str) -> dict[str, int]:
    """Write a model folder; return the id of every token.

    The model writes marks as the tokens that they are, and hardly white space: in JSON of a grammar
    it would write nothing else.
    """
    shutil.copytree(ZOO_MODELS / zoo, folder, dirs_exist_ok=True)
    file = folder / "tokenizer.json"
    tokenizer: dict[str, Any] = json.loads(file.read_text("utf-8"))
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    first = 1 + max(vocabulary.values())
    kind = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    # Those that are no roles stay in the text, as tokenizers of such models have it.
    ids = {mark: first + number for number, mark in enumerate(marks)}
    tokenizer["added_tokens"] += [
        {
            "id": number,
            "content": mark,
            **kind,
            "special": "_call" not in mark.lower() and "think" not in mark,
        }
        for mark, number in ids.items()
    ]
    file.write_text(json.dumps(tokenizer, ensure_ascii=False), "utf-8")
    config = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    config.pop("added_tokens_decoder", None)
    config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False), "utf-8")
    blank = [number for token, number in vocabulary.items() if not token.strip("ĠĊĉč")]
    with _rows(folder) as rows:
        unlikely = -2 * rows[vocabulary["<|pad|>"]]
        for mark, number in ids.items():  # rather one token than letters
            rows[number] = rows[vocabulary[mark[0]]] - unlikely
        rows[blank] = unlikely
    return vocabulary | ids
