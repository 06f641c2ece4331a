"""README.md and the other pages: their fenced blocks, and the commands in these.

A comment before a block says how it is tested: `<!-- test: slow, makes FILE ... -->` has it run by bash as it stands,
and the files named (patterns) must then exist and open; with `slow, training` where the weights of LPIPS are at hand,
with `test, makes FILE ...` a Python block among the quick tests. `<!-- test: goes on -->` runs it after the block
before it, in the same folder. Without a comment a block is run in a small form, see `tests/page_commands.py`.
"""

import re
import shlex
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = {
    str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8")
    for path in [
        REPOSITORY / "README.md",
        REPOSITORY / "CONTRIBUTING.md",
        *sorted(path for path in REPOSITORY.glob("docs/**/*.md") if "_build" not in path.parts),
        REPOSITORY / "benchmarks/README.md",
    ]
}
MARK = re.compile(r"test(?:: (slow(?:, training)?))?, makes (.+)")
GOES_ON = "test: goes on"
_BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- (?P<mark>[^>]*) -->\n *)?```(?P<language>[^\n]*)\n(?P<text>.*?)\n *```$", re.DOTALL | re.M
)
_FILE = re.compile(r"`(\w+\.py)`[^`]*$")


@dataclass(frozen=True)
class Block:
    page: str
    number: int  # of those of the page
    mark: str  # of the comment before the block; "" without one
    language: str
    text: str
    file: str  # of a Python block, the name under which the text before it has the reader put it; "" without one

    @property
    def kind(self) -> str | None:
        """Of a block that is run as it stands: "", "slow" or "slow, training"."""
        found = MARK.fullmatch(self.mark)
        return None if found is None else found[1] or ""

    @property
    def commands(self) -> list[list[str]]:
        """Words of each command of a bash block; those of a pipe one after the other."""
        lines = re.sub(r"(^|\s)#.*", "", self.text.replace("\\\n", " "), flags=re.MULTILINE).splitlines()
        return [shlex.split(command) for line in lines for command in re.split(r" \| |&& ", line) if command.strip()]


def _blocks(page: str, text: str) -> list[Block]:
    found: list[Block] = []
    end = 0
    for number, match in enumerate(_BLOCK.finditer(text)):
        named = _FILE.search(text[end : match.start()].rpartition("\n\n")[0].strip().rpartition("\n\n")[2])
        block = Block(
            page, number, match["mark"] or "", match["language"], match["text"] + "\n", named[1] if named else ""
        )
        found.append(block)
        end = match.end()
    return found


BLOCKS = [block for page, text in PAGES.items() for block in _blocks(page, text)]


def commands_of(program: str) -> list[Any]:
    """Arguments of each command on the pages, as parameters of a test."""
    words = program.split()
    found = [
        (block.page, command[len(words) :])
        for block in BLOCKS
        if block.language == "bash"
        for command in block.commands
        if command[: len(words)] == words and len(command) > len(words)
    ]
    assert found, f"no page shows a command {program}"
    return [pytest.param(arguments, id=f"{page}: {shlex.join(arguments)}") for page, arguments in found]


def jobs_of(overrides: list[str]) -> list[list[str]]:
    """Overrides of each job of a sweep (`-m`)."""
    if "-m" not in overrides:
        return [overrides]
    parsed = OverridesParser.create().parse_overrides([each for each in overrides if each != "-m"])
    values = [
        [f"{each.get_key_element()}={value}" for value in each.sweep_string_iterator()]
        if each.is_sweep_override()
        else [str(each.input_line)]
        for each in parsed
    ]
    return [list(job) for job in product(*values)]
