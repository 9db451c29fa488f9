"""Bytes of live tensors, counted storage by storage while operations run."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lora_foundry.memory.recall import Recall
    from lora_foundry.memory.scratch import Convolutions, Spots
    from lora_foundry.memory.work import Work

_NO_BYTES_OF_ITS_OWN = "meta"


class Tally(TorchDispatchMode):
    """Counts the storages that operations inside it make, from when they appear to when they are freed.

    Works for real tensors and for those of ``FakeTensorMode``, whose storages have sizes and no content. A
    storage counts once however many views it has, rounded up to ``grain`` bytes.

    Args:
        grain: Bytes that every allocation is a multiple of (512 for CUDA's caching allocator, 64 on the CPU).
        work: Told of every operation too.
        inside: Told of every operation, what it made, and what is alive behind it beyond what was at the last
            :meth:`mark`.
        recall: Runs the operations, which run by themselves without it.

    Attributes:
        live: Bytes alive now.
        peak: Most bytes alive since the last :meth:`mark`.
    """

    def __init__(
        self,
        *,
        grain: int,
        work: Work | None = None,
        inside: Spots | Convolutions | None = None,
        recall: Recall | None = None,
    ) -> None:
        super().__init__()
        self._recall = recall
        self._grain = grain
        self._work = work
        self._inside = inside
        self._start = 0
        self._known: dict[int, int] = {}
        self.live = 0
        self.peak = 0

    def mark(self) -> int:
        """Begin a new peak; returns the bytes alive now."""
        self.peak = self._start = self.live
        return self.live

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Count tensors that were there before."""
        for tensor in tensors:
            self._see(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Run the operation, then count what it made."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs) if self._recall is None else self._recall.run(func, args, kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf)
        if self._work is not None:
            self._work.see(func, args, kwargs, result)
        if self._inside is not None:
            self._inside.see(func, args, result, self.live - self._start)
        return result

    def _see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = -(-storage.nbytes() // self._grain) * self._grain
        self._known[key] = size
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._known.pop(key)
