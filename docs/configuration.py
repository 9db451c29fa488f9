"""Write docs/configuration.md from the schema's docstrings, its annotations and the defaults in conf/.

Run ``make docs`` after a change of the schema; a test holds that the page is current.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any, get_args

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lora_foundry.config import usual  # noqa: E402
from lora_foundry.config.choices import Choice  # noqa: E402 - needs the path above
from lora_foundry.config.hints import chosen_among, group_classes, hints_of  # noqa: E402
from lora_foundry.config.parse import value_words  # noqa: E402
from lora_foundry.config.schema import JobConfig  # noqa: E402

PAGE = ROOT / "docs" / "configuration.md"
HEAD = """# Configuration

<!-- Written by `make docs` from src/lora_foundry/config/schema.py and conf/: change those, not this page. -->

A job is composed from YAML groups under `conf/`. Any value can be set on the command line (`lora.rank=16`), and
swept with commas and `-m` (`lora.rank=4,8,16 -m`). A whole group is exchanged by its name (`sample=none`,
`optimizer=prodigy`). `python -m src.train --cfg job` shows what was composed. Where a default is given for each base,
its own file in `conf/model/` tells it (`usual`).

Every point of a sweep is checked before anything starts; all wrong keys and values are listed at once, with what is
allowed and the nearest right key.
"""


def field_notes(cls: type) -> dict[str, str]:
    """Each field's sentence from the ``Attributes:`` section of its class."""
    section = inspect.cleandoc(cls.__doc__ or "").partition("Attributes:\n")[2]
    notes: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            name = start[1]
            notes[name] = start[2]
        elif name and line.strip():
            notes[name] += " " + line.strip()
    return notes


def group_notes(cls: type) -> dict[str, str]:
    """The same of a group, with the fields of the class that a family's class extends."""
    extended = [field_notes(base) for base in reversed(cls.__mro__) if dataclasses.is_dataclass(base)]
    return {name: note for notes in extended for name, note in notes.items()}


def defaults() -> dict[str, Any]:
    """The values of the groups that conf/train.yaml composes, by group; the job's own under an empty name."""
    primary = yaml.safe_load((ROOT / "conf/train.yaml").read_text())
    chosen = {k: v for entry in primary["defaults"] if isinstance(entry, dict) for k, v in entry.items()}
    return {"": primary} | {
        group: load_group(group, name)
        for group, name in chosen.items()
        if name is not None and (ROOT / "conf" / group).is_dir()
    }


def load_group(group: str, name: str) -> dict[str, Any]:
    """One group file, with the file of the same group that its defaults name below it."""
    values = yaml.safe_load((ROOT / "conf" / group / f"{name}.yaml").read_text()) or {}
    parents = [entry for entry in values.pop("defaults", []) if entry != "_self_"]
    merged: dict[str, Any] = {}
    for parent in parents:
        merged |= load_group(group, parent)
    return merged | values


def shown(value: object) -> str:
    """A default as it stands in YAML; where each base's file tells its own, all of them."""
    reference = re.fullmatch(rf"\$\{{model\.{usual.NODE}\.(\w+)\}}", str(value))
    if reference:
        bases: dict[str, list[str]] = {}
        for file in sorted((ROOT / "conf" / "model").glob("*.yaml")):
            told = load_group("model", file.stem)[usual.NODE][reference[1]]
            bases.setdefault(shown(told), []).append(f"`{file.stem}`")
        return ", ".join(f"{default} of {' and '.join(names)}" for default, names in bases.items())
    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return f"`{text.replace('...', '').replace(chr(10), '')}`"


def table(cls: type, group: str, values: dict[str, Any]) -> list[str]:
    """One class's fields as Markdown rows."""
    notes = group_notes(cls)
    hints = hints_of(cls)
    rows = ["| key | default | allowed | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if inner := group_classes(hint):
            if group:  # a group in a group has no section of its own
                rows += table(inner[""], f"{group}.{field.name}", values[field.name])[2:]
            continue
        if chosen_among(hint) is not None:
            continue
        key = f"{group}.{field.name}" if group else field.name
        note = notes[field.name].replace("``", "`").replace("|", "\\|")
        rows.append(f"| `{key}` | {shown(values[field.name])} | {value_words(hint)} | {note} |")
    return rows


def own_options(cls: type, group: str) -> list[str]:
    """A table for each choice of a group that has options of its own."""
    parts: list[str] = []
    for field, hint in hints_of(cls).items():
        choices = chosen_among(hint)
        for name in () if choices is None else choices.names():
            options = choices.load(name, Choice).options
            if dataclasses.fields(options):
                key = f"{group}.{field}"
                values = {one.name: one.default for one in dataclasses.fields(options)}
                parts += ["", f"Of `{choices.key}={name}` alone:", "", *table(options, key, values)]
    return parts


def of_families(group: str, annotation: Any) -> list[str]:  # noqa: ANN401
    """Which keys of a group bases of some families alone have."""
    shared = dataclasses.fields(get_args(annotation)[0]) if get_args(annotation) else ()
    keys: dict[str, list[str]] = {}
    for name, cls in group_classes(annotation).items():
        own = {field.name for field in dataclasses.fields(cls)} - {field.name for field in shared}
        if name and own:
            listed = ", ".join(f"`{group}.{field.name}`" for field in dataclasses.fields(cls) if field.name in own)
            keys.setdefault(listed, []).append(f"`{name}`")
    lines = [f"Bases of `model.family` {', '.join(names)} alone have {listed}." for listed, names in keys.items()]
    return ["", *lines] if lines else []


def page() -> str:
    """The whole page."""
    found = defaults()
    parts = [HEAD, "## The job\n", *table(JobConfig, "", found[""])]
    for group, annotation in hints_of(JobConfig).items():
        classes = group_classes(annotation)
        if not classes:
            continue
        hint = classes.get(found["model"]["family"], next(iter(classes.values())))
        files = sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml"))
        chosen = f"Choices: {', '.join(f'`{group}={name}`' for name in files)}."
        summary = inspect.cleandoc(hint.__doc__ or "").splitlines()[0]
        parts += ["", f"## {group}", "", f"{summary} {chosen}", "", *table(hint, group, found[group])]
        parts += of_families(group, annotation)
        parts += own_options(hint, group)
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
