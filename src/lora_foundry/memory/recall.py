"""What operations gave for tensors without content, given again where the same is asked.

Most of a trace's time goes into working out shapes, and a base asks for the same ones in block after block, forward and
backward, for one member and for two.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

_META = torch.device("meta")
_Layout = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]


class Recall:
    """Runs operations; one that makes new tensors and changes none is run once for each layout of what it is given."""

    def __init__(self) -> None:
        self._known: dict[Any, _Kept] = {}

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401  # as torch dispatches
        """What ``func`` gives."""
        if not _makes_only(func):
            return func(*args, **kwargs)
        key = (func, _key(args), _key(tuple(kwargs.items())))
        kept = self._known.get(key)
        if kept is None:
            result = func(*args, **kwargs)
            self._known[key] = _Kept(result, (args, kwargs))
            return result
        return kept.again() if kept.layouts is not None else func(*args, **kwargs)


RECALL = Recall()
"""Of this process: what a layout gives, it gives in every trace."""


class _Kept:
    """How a result is laid out.

    Attributes:
        layouts: Of its tensors, null for a place without one; null altogether where it cannot be made again so: it has
            content, or shares a storage with what was given.
    """

    def __init__(self, result: Any, given: Any) -> None:  # noqa: ANN401
        parts = result if isinstance(result, tuple) else (result,)
        self._several = isinstance(result, tuple)
        self.layouts = [_layout(part) for part in parts] if _is_new(parts, given) else None

    def again(self) -> Any:  # noqa: ANN401
        """New tensors of the same layout."""
        made = [None if layout is None else _made(layout) for layout in self.layouts or ()]
        return tuple(made) if self._several else made[0]


@cache
def _makes_only(func: Any) -> bool:  # noqa: ANN401
    """Whether its schema says that it changes nothing, and shares nothing, of what it is given."""
    schema = func._schema
    return all(one.alias_info is None for one in (*schema.arguments, *schema.returns))


def _key(value: Any) -> Any:  # noqa: ANN401
    """A tensor's layout, with the type of what is none: 1, 1.0 and True are equal, and give different types."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype, value.device
    if isinstance(value, tuple | list):
        return tuple(map(_key, value))
    return type(value), value


def _is_new(parts: tuple[Any, ...], given: Any) -> bool:  # noqa: ANN401
    """Whether all are tensors without content that nobody else has; some schemas do not say what they share."""
    tensors = [part for part in parts if part is not None]
    if not tensors or not all(isinstance(part, Tensor) and part.device == _META for part in tensors):
        return False
    storages = [part.untyped_storage()._cdata for part in tensors]
    theirs = {leaf.untyped_storage()._cdata for leaf in tree_leaves(given) if isinstance(leaf, Tensor)}
    if theirs.intersection(storages) or len({*storages}) < len(storages):
        return False
    sizes = [_made(layout).untyped_storage().nbytes() for part in tensors if (layout := _layout(part))]
    return sizes == [part.untyped_storage().nbytes() for part in tensors]


def _layout(part: Tensor | None) -> _Layout | None:
    return None if part is None else (tuple(part.shape), part.stride(), part.dtype)


def _made(layout: _Layout) -> Tensor:
    size, stride, dtype = layout
    return torch.empty_strided(size, stride, dtype=dtype, device=_META)
