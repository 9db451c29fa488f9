"""Frozen types cross between rooms, no ``dict[str, Any]``, of which one has to know what somebody else put into it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.root import PROJECT_ROOT

SRC = PROJECT_ROOT / "src"
ALLOWED = {
    "lora_foundry.config.choices.Choice.misfits": "the groups of a configuration, each a frozen type of its own",
    "lora_foundry.config.launcher.Settings.of": "a part of a composed configuration becomes a frozen type here",
    "lora_foundry.config.parse.parse": "a composed configuration becomes a frozen type here",
    "lora_foundry.config.parse.parse_stored": "a stored configuration becomes a frozen type here",
    "lora_foundry.config.rules.broken_rules": "the groups of a configuration, each a frozen type of its own",
    "lora_foundry.config.stored.is_mapping": "tells that a JSON value is one",
    "lora_foundry.config.tensorfile.TensorHeader.tensors": "the header of a safetensors file, as that format has it",
    "lora_foundry.launch.points.point.Point.values": "what Hydra composed, to be stored as it is",
    "lora_foundry.models.protocol.Denoiser.scheduler_config": "a base's own file, for diffusers",
    "lora_foundry.wire.fields.Form.read": "a JSON object becomes a frozen type here",
    "lora_foundry.wire.fields.Form.written": "a frozen type becomes a JSON object here",
}


def _modules() -> dict[str, ast.Module]:
    files = [*SRC.glob("lora_foundry/**/*.py"), *SRC.glob("hydra_plugins/**/*.py")]
    return {_name(file): ast.parse(file.read_text()) for file in files}


def _name(file: Path) -> str:
    return ".".join(file.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


def _room(module: str) -> str:
    """The launcher is six rooms."""
    _, first, *rest = [*module.split("."), ""]
    return f"{first}.{rest[0]}" if first == "launch" and rest else first


def _is_open(annotation: ast.expr | None) -> bool:
    """Whether a mapping to ``Any`` is in it."""
    for node in ast.walk(annotation) if annotation is not None else ():
        mapping = isinstance(node, ast.Subscript) and ast.unparse(node.value) in ("dict", "Mapping", "MutableMapping")
        if mapping and ast.unparse(node.slice).endswith(", Any)"):  # type: ignore[union-attr]  # a subscript
            return True
    return False


def _of_function(node: ast.FunctionDef) -> bool:
    taken = node.args
    every = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs]
    return _is_open(node.returns) or any(_is_open(one.annotation) for one in every)


def _open_ones(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Name in the module, and that of what is open in it."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from ((node.name, f".{inner}") for inner, _ in _open_ones(node.body))
        elif isinstance(node, ast.FunctionDef) and _of_function(node):
            yield node.name, ""
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and _is_open(node.annotation):
            yield node.target.id, ""


def _crossing() -> set[str]:
    """What is open and public, of names that another room imports."""
    modules = _modules()
    imported = {
        (node.module, alias.name)
        for module, tree in modules.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and _room(node.module) != _room(module)
        for alias in node.names
    }
    found = {
        (module, name, inner)
        for module, tree in modules.items()
        for name, inner in _open_ones(tree.body)
        if (module, name) in imported and (not inner.startswith("._") or inner == ".__init__")
    }
    return {f"{module}.{name}{inner}" for module, name, inner in found}


def test_no_open_mapping_crosses_a_room_but_for_a_reason() -> None:
    assert _crossing() == set(ALLOWED), "make it a frozen type; or strike what crosses no more"


def test_an_open_mapping_is_found_wherever_it_stands() -> None:
    text = """
def taken(one: int, *, two: list[Mapping[str, Any]]) -> None: ...
def given() -> dict[str, Any] | None: ...
def closed(one: dict[str, int], two: Mapping[str, object]) -> None: ...
class Holder:
    field: dict[int, dict[str, Any]]
    def __init__(self, one: dict[str, Any]) -> None: ...
VALUE: Mapping[str, Any] = {}
"""
    found = list(_open_ones(ast.parse(text).body))
    assert found == [("taken", ""), ("given", ""), ("Holder", ".field"), ("Holder", ".__init__"), ("VALUE", "")]
