"""From a composed mapping to a :class:`~lora_foundry.config.schema.JobConfig`, with every problem at once."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import difflib
import math
import re
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lora_foundry.config import usual
from lora_foundry.config.choices import Choice, Choices, Options
from lora_foundry.config.constraints import Constraint, IsPath
from lora_foundry.config.earlier import completed
from lora_foundry.config.elsewhere import our_key, why_not_here
from lora_foundry.config.hints import chosen_among, families_with, group_classes, hints_of, known_keys
from lora_foundry.config.paths import expand_home
from lora_foundry.config.rules import broken_rules
from lora_foundry.config.schema import JobConfig
from lora_foundry.config.unicode import is_unicode

_RATIO = re.compile(r"([0-9]*\.?[0-9]+)\s*[xX]")
_LEAST_LIKENESS = 0.6
_SAME_GROUP = 0.1
_UNICODE = ", of valid Unicode (got half of a surrogate pair, or a byte that is not UTF-8)"


class ConfigError(ValueError):
    """One or more wrong keys or values; ``problems`` holds a line for each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = list(problems)
        count = f"{len(problems)} problems" if len(problems) != 1 else "1 problem"
        super().__init__(f"The configuration has {count}:\n" + "\n".join(f"  - {line}" for line in problems))


class _WrongValueError(Exception):
    """A value that does not fit; the message says what is allowed."""


def parse(cfg: DictConfig | dict[str, Any]) -> JobConfig:
    """Check a composed config and freeze it.

    Args:
        cfg: What Hydra composed (without the ``hydra`` node), or a plain nested dict.

    Returns:
        The job, with ``lora.alpha`` resolved to a number.

    Raises:
        ConfigError: With every unknown key, missing key, wrong type, broken limit and broken rule.
    """
    raw = _plain(cfg)
    problems: list[str] = []
    told = usual.without({str(k): v for k, v in raw.items() if k != "hydra"}, problems)
    resolved = _resolve_alpha(told, problems)
    sound = _read_group(JobConfig, resolved, "", problems)
    problems.extend(broken_rules(sound))
    if problems:
        raise ConfigError(problems)
    return JobConfig(**sound)


def parse_stored(cfg: DictConfig | dict[str, Any]) -> JobConfig:
    """As :func:`parse`, for the configuration of a job that may have begun under an earlier version.

    Raises:
        ConfigError: As :func:`parse`; a key that the earlier version did not have is no problem.
    """
    return parse(completed(_plain(cfg)))


def _plain(cfg: object) -> dict[Any, Any]:
    if isinstance(cfg, DictConfig):
        cfg = copy.deepcopy(cfg)
        usual.fill_in(cfg)
    try:
        raw = OmegaConf.to_container(cfg, resolve=True) if isinstance(cfg, DictConfig) else cfg
    except OmegaConfBaseException as error:
        raise ConfigError([str(error).splitlines()[0]]) from error
    if not isinstance(raw, dict):
        raise ConfigError([f"got a {type(raw).__name__}, allowed is a mapping of keys to values"])
    return raw


def key_hint(key: str, choices: list[str]) -> str:
    """What is said behind "no such key": our key for what other trainers call so, else the nearest of ``choices``."""
    ours, reason = our_key(key), why_not_here(key)
    if ours is not None:
        return f"; did you mean {ours!r}?"
    return nearest(key, choices) if reason is None else f"; {reason}"


def nearest(word: str, choices: list[str]) -> str:
    """``; did you mean 'x'?`` for the closest of ``choices``, or an empty text.

    A dotted key is compared by its last part, and only with dotted keys; of equals, the one in the likest group wins.
    """
    group, _, leaf = word.rpartition(".")

    def likeness(choice: str) -> float:
        other_group, _, other = choice.rpartition(".")
        if group and not other_group:
            return 0.0
        same = difflib.SequenceMatcher(None, leaf, other).ratio()
        groups = difflib.SequenceMatcher(None, group, other_group).ratio() if group else float(group == other_group)
        return same + _SAME_GROUP * groups if same >= _LEAST_LIKENESS else same

    best = max(choices, key=likeness, default="")
    return f"; did you mean {best!r}?" if best and likeness(best) >= _LEAST_LIKENESS else ""


def keys_called(name: str) -> list[str]:
    """Keys that a word means which is given like a flag (``--rank``, ``--network_dim``); empty where it is no key."""
    leaf, keys = name.strip("-").replace("-", "_"), known_keys()
    ours = our_key(leaf)
    if leaf in keys or ours is not None:
        return [leaf if leaf in keys else str(ours)]
    return [key for key in keys if key.rsplit(".", 1)[-1] == leaf]


def _read_group(cls: type, raw: object, prefix: str, problems: list[str]) -> dict[str, Any]:
    """The fields of ``cls`` that are sound; a group with an unsound field is left out as a whole."""
    if not isinstance(raw, dict):
        problems.append(f"{prefix.rstrip('.')}: got {_show(raw)}, allowed is a group of keys")
        return {}
    hints = hints_of(cls)
    problems.extend(_unknown(f"{prefix}{key}", hints) for key in raw if key not in hints)
    sound: dict[str, Any] = {}
    for name, hint in hints.items():
        where = prefix + name
        choices = chosen_among(hint)
        if choices is not None:
            sound |= {name: options} if (options := _read_options(choices, raw, where, problems)) is not None else {}
        elif name not in raw or raw[name] == "???":
            problems.append(f"{where}: no value; give one with {where}=...{_by_the_base(where) if name in raw else ''}")
        elif classes := group_classes(hint):
            group = classes.get(_family(raw), next(iter(classes.values())))
            fields = _read_group(group, raw[name], f"{where}.", problems)
            if len(fields) == len(dataclasses.fields(group)):
                sound[name] = group(**fields)
        else:
            try:
                sound[name] = _convert(hint, raw[name])
            except _WrongValueError as wrong:
                allowed = wrong if _holds_unicode(raw[name]) else f"{value_words(hint)}{_UNICODE}"
                problems.append(f"{where}: got {_show(raw[name])}, allowed is {allowed}")
    return sound


def _by_the_base(key: str) -> str:
    name = usual.OF_BASES.get(key)
    return "" if name is None else f", or for all trainings on this base with {usual.NODE}.{name} in the model's file"


def _unknown(key: str, hints: dict[str, Any]) -> str:
    having = families_with(key)
    if having:
        return f"{key}: no key of bases of this model.family; those of {', '.join(having)} have it"
    hint = key_hint(key, known_keys()) or f"; allowed here: {', '.join(sorted(hints))}"
    return f"{key}: no such key{hint}"


def _family(job: dict[str, Any]) -> str:
    """What decides the classes of a job's groups; where it is wrong, which is said, any serves to find what else is."""
    model = job.get("model")
    return str(model.get("family")) if isinstance(model, dict) else ""


def _read_options(choices: Choices, group: dict[str, Any], where: str, problems: list[str]) -> Options | None:
    """The options of what ``group`` chose, those that are not given by their defaults; None where one is unsound."""
    name, given = group.get(choices.field), group.get(where.rpartition(".")[2])
    if name not in choices.names():
        return None  # which is a problem of its own
    cls = choices.load(name, Choice).options
    fields, options = dataclasses.fields(cls), {} if given is None else given
    if isinstance(options, dict):
        allowed = f"allowed are {', '.join(field.name for field in fields)}" if fields else "it has none"
        unknown = [key for key in options if key not in hints_of(cls)]
        problems.extend(f"{where}.{key}: no option of {choices.key}={name}; {allowed}" for key in unknown)
        known = {key: value for key, value in options.items() if key not in unknown}
        options = {field.name: field.default for field in fields if field.default is not dataclasses.MISSING} | known
    sound = _read_group(cls, options, f"{where}.", problems)
    return cls(**sound) if len(sound) == len(fields) else None


def _holds_unicode(value: object) -> bool:
    texts = value if isinstance(value, (list, tuple)) else [value]
    return all(is_unicode(text) for text in texts if isinstance(text, str))


def _convert(hint: Any, value: object) -> Any:  # noqa: ANN401
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *limits = get_args(hint)
        try:
            converted = _convert(inner, value)
        except _WrongValueError as wrong:
            raise _WrongValueError(value_words(hint)) from wrong
        if all(limit.holds(converted) for limit in limits if isinstance(limit, Constraint)):
            return expand_home(converted) if IsPath() in limits else converted
        raise _WrongValueError(value_words(hint))
    if origin is Literal:
        choices = get_args(hint)
        if value in choices and not isinstance(value, bool):
            return value
        raise _WrongValueError(value_words(hint) + nearest(str(value), [str(c) for c in choices]))
    if origin in (Union, types.UnionType):
        return _convert_union(get_args(hint), value, hint)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _WrongValueError(value_words(hint))
        try:
            return tuple(_convert(get_args(hint)[0], item) for item in value)
        except _WrongValueError as wrong:
            raise _WrongValueError(value_words(hint)) from wrong
    return _convert_scalar(hint, value)


def _convert_union(options: tuple[Any, ...], value: object, hint: Any) -> Any:  # noqa: ANN401
    if value is None and type(None) in options:
        return None
    reasons: list[str] = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _convert(option, value)
        except _WrongValueError as wrong:
            reasons.append(str(wrong))
    null = " or null" if type(None) in options else ""
    raise _WrongValueError((reasons[0] if len(reasons) == 1 else value_words(hint)) + null)


def _convert_scalar(hint: Any, value: object) -> Any:  # noqa: ANN401
    if isinstance(value, bool):
        if hint is bool:
            return value
    elif hint is float and isinstance(value, (int, float)):
        with contextlib.suppress(OverflowError):
            if math.isfinite(value):
                return float(value)
    elif (hint is int and isinstance(value, int)) or (hint is str and isinstance(value, str) and is_unicode(value)):
        return value
    elif hint is str and isinstance(value, (int, float)):
        return str(value)
    raise _WrongValueError(value_words(hint))


def value_words(hint: Any) -> str:  # noqa: ANN401
    """What an annotation of the schema allows, in words."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *limits = get_args(hint)
        return ", ".join([value_words(inner), *(c.allowed() for c in limits if isinstance(c, Constraint))])
    if origin is Literal:
        return "one of " + ", ".join(str(c) for c in get_args(hint))
    if origin in (Union, types.UnionType):
        return " or ".join(value_words(option) for option in get_args(hint))
    if origin is tuple:
        words = value_words(get_args(hint)[0])
        return (
            f"a list of any {words.removeprefix('one ')}"
            if words.startswith("one of ")
            else f"a list of {words.removeprefix('a ')}s"
        )
    names = {float: "a finite number", int: "a whole number", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(hint, str(hint))


def _show(value: object) -> str:
    return f"{value!r} ({type(value).__name__})" if value is not None else "null"


def _resolve_alpha(raw: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """``lora.alpha`` as a number: null is the rank, ``0.5x`` half of it."""
    lora = raw.get("lora")
    if not isinstance(lora, dict) or "alpha" not in lora:
        return raw
    rank, alpha = lora.get("rank"), lora["alpha"]
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        rank = 1  # the rank's own error is reported, and a wrong alpha beside it
    if alpha is None:
        alpha = float(rank)
    elif isinstance(alpha, str) and alpha != "???":
        ratio = _RATIO.fullmatch(alpha)
        if ratio is None:
            allowed = "a number, a ratio of the rank such as 0.5x, or null for alpha = rank"
            problems.append(f"lora.alpha: got {_show(alpha)}, allowed is {allowed}")
        alpha = float(ratio[1]) * rank if ratio else float(rank)
    return {**raw, "lora": {**lora, "alpha": alpha}}
