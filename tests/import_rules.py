"""The project's structure as data, and the checks that hold sources to it.

A *unit* is what stands directly under `glc_train`: a folder, a single-file module, or the package itself (`glc_train`).
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

PACKAGE = "glc_train"
FRAMEWORKS = frozenset({"lightning", "pytorch_lightning", "hydra", "omegaconf"})

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_CONSTRUCTOR_ARGUMENTS = 12
MAX_SCRIPT_LINES = 60


@dataclass(frozen=True)
class Rule:
    """What a unit may import: units of ours, and of other libraries all but `never`, or `only` if given."""

    ours: frozenset[str]
    never: frozenset[str] = frozenset()
    only: frozenset[str] | None = None


def _units(names: str) -> frozenset[str]:
    return frozenset(names.split())


# docs/architecture.md, "Where things are", draws this table: change both together.
RULES: dict[str, Rule] = {
    "layers": Rule(frozenset(), never=FRAMEWORKS),
    "autoencoder": Rule(_units("layers memory pixels"), never=FRAMEWORKS),
    "transform": Rule(_units("layers"), never=FRAMEWORKS),
    "bitstream": Rule(frozenset(), only=frozenset({"numpy", "constriction"})),
    "effort": Rule(_units("transform losses"), never=FRAMEWORKS),
    "ahead": Rule(frozenset(), only=frozenset()),
    "codecs": Rule(_units("layers autoencoder transform bitstream effort memory pixels ahead"), never=FRAMEWORKS),
    "files": Rule(frozenset(), only=frozenset()),
    "errors": Rule(frozenset(), only=frozenset()),
    "extras": Rule(frozenset(), only=frozenset()),
    "interruption": Rule(frozenset(), only=frozenset()),
    "processes": Rule(_units("errors interruption"), only=frozenset()),
    "command_line": Rule(_units("errors"), only=frozenset({"hydra", "omegaconf"})),
    "codec_groups": Rule(frozenset(), only=frozenset({"hydra", "omegaconf"})),
    "pickles": Rule(frozenset(), only=frozenset({"torch"})),
    "backbones": Rule(_units("layers files pickles"), never=FRAMEWORKS),
    "provenance": Rule(frozenset(), only=frozenset({"torch"})),
    "pixels": Rule(frozenset(), only=frozenset({"numpy", "torch"})),
    "precision": Rule(frozenset(), only=frozenset({"torch"})),
    "memory": Rule(frozenset(), only=frozenset({"torch"})),
    "losses": Rule(_units("layers autoencoder backbones")),
    "metrics": Rule(_units("backbones pickles pixels")),
    "media": Rule(_units("files"), only=frozenset({"numpy", "PIL", "av", "simplejpeg"})),
    "data": Rule(_units("files media pixels")),
    "datasets": Rule(_units("files media"), never=FRAMEWORKS),
    "weights": Rule(_units("layers autoencoder transform codecs errors extras files pickles precision")),
    "graph_export": Rule(_units("layers codecs weights extras files"), never=FRAMEWORKS),
    "compressai": Rule(_units("codecs transform weights pixels"), never=FRAMEWORKS),
    "training": Rule(
        _units(
            "layers autoencoder transform codecs losses media data metrics backbones weights"
            " errors files pickles pixels provenance precision interruption glc_train"
        )
    ),
    "report": Rule(_units("files media"), only=frozenset({"numpy", "PIL", "jinja2"})),
    "evaluation": Rule(
        _units(
            "codecs effort metrics media data datasets backbones weights errors files memory pickles processes"
            " provenance precision report codec_groups glc_train"
        )
    ),
    "cli": Rule(
        _units(
            "codecs bitstream effort media data datasets weights backbones errors extras files memory precision"
            " processes evaluation report ahead graph_export glc_train"
        )
    ),
    "demo": Rule(_units("codecs media data errors evaluation extras interruption metrics training weights")),
    "glc_train": Rule(_units("codecs weights")),
    "__main__": Rule(_units("cli interruption"), only=frozenset()),
}


def unit_of(path: PurePosixPath) -> str:
    """Unit that the file `glc_train/...` (a path relative to the checkout) belongs to."""
    inside = path.parts[1:]
    if inside == ("__init__.py",):
        return PACKAGE
    return inside[0].removesuffix(".py")


def imported_modules(path: PurePosixPath, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of all that is imported anywhere in the file, relative imports resolved.

    `from a import b` gives `a.b`, since b may be a module. Imports by name through `import_module` count as well.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = list(path.parent.parts[: len(path.parent.parts) - level + 1]) if level else []
                base += module.split(".") if module else []
                yield from ((node.lineno, ".".join([*base, alias.name])) for alias in names)
            case ast.Call(
                func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield node.lineno, name


def import_violations(path: PurePosixPath, source: str, units: frozenset[str] = frozenset(RULES)) -> list[str]:
    """One sentence for each import in a file of the package that the table forbids."""
    unit = unit_of(path)
    if unit not in RULES:
        return [f"{path}: glc_train/{unit} has no line in RULES: say there what it may import"]
    rule = RULES[unit]
    found = []
    for line, module in imported_modules(path, ast.parse(source)):
        top, *rest = module.split(".")
        if top == PACKAGE:
            # `from glc_train import name` reaches a unit, or what the package's own __init__ offers.
            target = rest[0] if rest and rest[0] in units else PACKAGE
            if target != unit and target not in rule.ours:
                found.append(f"{path}:{line}: {unit} may not import {target}")
        elif top in rule.never or (rule.only is not None and top not in rule.only | sys.stdlib_module_names):
            found.append(f"{path}:{line}: {unit} may not import {top}")
    return found


def unsafe_load_violations(path: PurePosixPath, source: str) -> list[str]:
    """One sentence for each `torch.load` that does not say `weights_only=True`: it would run code from the file."""
    tree = ast.parse(source)
    aliases = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "torch"
        for alias in node.names
        if alias.name == "load"
    }
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="torch"), attr="load")):
                pass
            case ast.Call(func=ast.Name(id=name)) if name in aliases:
                pass
            case _:
                continue
        safe = any(
            keyword.arg == "weights_only" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
            for keyword in node.keywords
        )
        if not safe:
            found.append(f"{path}:{node.lineno}: torch.load without weights_only=True")
    return found


def size_violations(path: PurePosixPath, source: str) -> list[str]:
    """One sentence for each file, function or constructor that is too big: look for the two things in it."""
    lines = len(source.splitlines())
    limit = MAX_SCRIPT_LINES if str(path) in ("train.py", "evaluate.py") else MAX_FILE_LINES
    found = [f"{path}: {lines} lines, at most {limit}"] if lines > limit else []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > MAX_FUNCTION_LINES:
            found.append(f"{path}:{node.lineno}: {node.name} has {length} lines, at most {MAX_FUNCTION_LINES}")
        arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        if node.name == "__init__" and len(arguments) - 1 > MAX_CONSTRUCTOR_ARGUMENTS:
            found.append(f"{path}:{node.lineno}: a constructor takes at most {MAX_CONSTRUCTOR_ARGUMENTS} arguments")
    return found
