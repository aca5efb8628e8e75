"""Generate files from the options' fields: the tables of docs/options.md, and the types of `**options`.

python tools/write_options.py           write them (make options)
python tools/write_options.py --check   fail if they are out of date
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pllm_notebook.ensemble.framework_config import FrameworkConfig
from pllm_notebook.options import OptionField, Options, fields_of, taken_by
from pllm_notebook.sessions.session_config import SessionConfig
from pllm_notebook.settings import Settings

ROOT = Path(__file__).resolve().parents[1]

# Each front end's TypedDict, what it says, and the options that its functions name themselves.
ROW_TYPES = {
    "ParseOptions": ("Options of `df.llm.parse` and its kin.", "parse", ()),
    "CompleteOptions": ("Options of `df.llm.complete`.", "complete", ("column",)),
    "CallToolsOptions": ("Options of `df.llm.call_tools`.", "call_tools", ("tools",)),
    "DecideOptions": ("Options of `df.llm.decide`.", "decide", ()),
}
LAB_TYPES = {
    "RaceOptions": ("Options of `df.llm.race`, for all arms.", "race", ("effort",)),
    "ImproveOptions": ("Options of `df.llm.improve`, in place of those of the run.", "improve", ("seed",)),
    "RecheckOptions": ("Options of `df.llm.recheck`, in place of those of the run.", "recheck", ()),
}
TYPES = {
    "PromptListOptions": ("Options of `ParallelAIUtilities`.", "prompt_list", ()),
    "CallOptions": ("Options of one call of a program, `agent.ask_llm`.", "ask_llm", ()),
    "RequestOptions": ("Options of one request of `ParallelLLM`.", "request", ()),
}


def table(options: Iterable[OptionField]) -> str:
    """Return options as a Markdown table: name, default, meaning."""
    rows = [
        f"| `{each.name}` | `{shown(each.default)}` | {' '.join(filter(None, (each.text, each.about['more'])))} |"
        for each in options
    ]
    return "\n".join(["| name | default | |", "| --- | --- | --- |", *rows])


def shown(value: Any) -> str:
    """Return a default as the documentation writes it."""
    return repr(value).replace("'", '"')


def keyed(options: Iterable[OptionField]) -> str:
    """Return the options that are part of the cache key, as a list in words."""
    *others, last = [f"`{each.name}`" for each in options if each.keyed]
    return f"{', '.join(others)} and {last}"


def page(text: str, kinds: Mapping[str, type[Any]]) -> str:
    """Return docs/options.md with its tables as the fields have them."""
    made = {name: table(fields_of(kind).values()) for name, kind in kinds.items()}
    made["keyed"] = (
        "The cache key contains everything that can change the answer: the prompt with its images, the type, and the "
        f"options {keyed(fields_of(kinds['options']).values())}."
    )
    for name, block in made.items():
        pattern = rf"(<!-- {name}: .*? -->\n\n).*?(\n\n<!-- end -->)"
        text, found = re.subn(pattern, lambda match, new=block: match[1] + new + match[2], text, flags=re.DOTALL)
        assert found == 1, name
    return text


def types(options: type[Any], settings: type[Any]) -> str:
    """Return the source of `pllm_notebook.options.option_types`."""
    everything = {**fields_of(options), **fields_of(settings)}

    def taken(front_end: str, named: Iterable[str]) -> dict[str, OptionField]:
        return {name: each for name, each in taken_by(options, front_end).items() if name not in named}

    of_rows = {name: taken(front_end, named) for name, (_, front_end, named) in (ROW_TYPES | LAB_TYPES).items()}
    row, lab = shared(of_rows.values()), shared(of_rows[name] for name in LAB_TYPES)
    parts = [typed_dict("RowOptions", "Options of every question about rows.", row.values())]
    for name, (text, _, _) in ROW_TYPES.items():
        parts.append(typed_dict(name, text, without(of_rows[name], row), base="RowOptions"))
    parts.append(typed_dict("LabOptions", "Options of the methods of the lab.", without(lab, row), base="RowOptions"))
    for name, (text, _, _) in LAB_TYPES.items():
        parts.append(typed_dict(name, text, without(of_rows[name], lab), base="LabOptions"))
    for name, (text, front_end, named) in TYPES.items():
        parts.append(typed_dict(name, text, taken(front_end, named).values()))
    parts.append(
        typed_dict("ConfigureOptions", "Values of `configure`; None removes one.", everything.values(), or_none=True)
    )
    parts.append(typed_dict("FrameworkOptions", "Settings of `ParallelLLM`.", fields_of(FrameworkConfig).values()))
    names = "".join(
        f'    "{name}",\n' for name in sorted([*ROW_TYPES, *LAB_TYPES, *TYPES, "ConfigureOptions", "FrameworkOptions"])
    )
    header = (
        '"""The types of `**options`, for type checkers. Made from the fields of `Options` by `make options`."""\n\n'
        "from __future__ import annotations\n\n"
        "import os\n"
        "from collections.abc import Callable, Mapping, Sequence\n"
        "from typing import Any, Literal, TypedDict\n\n"
        "from pllm_notebook.events import Event\n"
        "from pllm_notebook.options.run_options import CacheUse, Effort, Mode, ServiceTier, Voting\n\n"
        f"__all__ = [\n{names}]\n"
    )
    return "\n\n".join([header, *parts]).replace("'", '"')


def shared(of: Iterable[Mapping[str, OptionField]]) -> dict[str, OptionField]:
    """Return the options that all have, in the order of the first."""
    first, *others = of
    return {name: each for name, each in first.items() if all(name in other for other in others)}


def without(options: Mapping[str, OptionField], base: Mapping[str, OptionField]) -> list[OptionField]:
    """Return the options that are not in the base."""
    return [each for name, each in options.items() if name not in base]


def session_types(config: type[Any]) -> str:
    """Return the source of `pllm_notebook.sessions.session_option_types`."""
    header = (
        '"""The options of `resume_directory`. Made from the fields of `SessionConfig` by `make options`."""\n\n'
        "from __future__ import annotations\n\n"
        "from collections.abc import Sequence\n"
        "from typing import Literal, TypedDict\n\n"
        "from pllm_notebook.sessions.llm_identity import LLMIdentity\n"
        "from pllm_notebook.sessions.throttler import Throttler\n\n"
        '__all__ = ["SessionOptions"]\n'
    )
    body = typed_dict("SessionOptions", "Options of `resume_directory`.", fields_of(config).values())
    return "\n\n".join([header, body]).replace("'", '"')


def typed_dict(
    name: str, text: str, options: Iterable[OptionField], *, base: str = "TypedDict", or_none: bool = False
) -> str:
    """Return the source of one TypedDict."""
    lines = [
        f"    {each.name}: {each.accepts}{' | None' if or_none and 'None' not in each.accepts else ''}"
        for each in options
    ]
    return "\n".join([f"class {name}({base}, total=False):", f'    """{text}"""', "", *lines, ""])


def files() -> dict[Path, str]:
    """Return each file that is made from the fields, as it should be."""
    docs = ROOT / "docs" / "options.md"
    return {
        docs: page(docs.read_text(encoding="utf-8"), {"options": Options, "settings": Settings}),
        ROOT / "pllm_notebook" / "options" / "option_types.py": types(Options, Settings),
        ROOT / "pllm_notebook" / "sessions" / "session_option_types.py": session_types(SessionConfig),
    }


def main(arguments: list[str]) -> int:
    """Write the files, or print which differ. Return the exit code."""
    differing = [path for path, text in files().items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in arguments:
        for path in differing:
            print(f"{path.relative_to(ROOT)} is not what the options' fields say: run `make options`.")
        return bool(differing)
    for path in differing:
        path.write_text(files()[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
