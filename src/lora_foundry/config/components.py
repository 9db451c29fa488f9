"""How the layers of a base of several networks are called.

A base is a set of named networks: what it predicts with, and others that adapters can be put into, such as a text
encoder. The layers of the first bear their own names, so that they are called the same whatever stands beside it; a
layer of another has that one's name before its own: ``text_encoder.layers.0.fc1``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol, TypeVar

M_co = TypeVar("M_co", covariant=True)


class Network(Protocol[M_co]):
    """What of torch's modules is needed here, where nothing imports torch."""

    def named_modules(self) -> Iterable[tuple[str, M_co]]:
        """Every layer by its dotted name within; the network itself by an empty one."""


def full_name(components: Iterable[str], component: str, name: str) -> str:
    """What the layer ``name`` of ``component`` is called in a base of ``components``."""
    return name if component == next(iter(components)) else f"{component}.{name}".rstrip(".")


def split_name(components: Iterable[str], full: str) -> tuple[str, str]:
    """The reverse of :func:`full_name`: a layer's component, and its name there."""
    first, *others = components
    head, _, rest = full.partition(".")
    return (head, rest) if head in others else (first, full)


def named_layers(networks: Mapping[str, Network[M_co]]) -> Iterator[tuple[str, M_co]]:
    """Every layer of every network by its full name.

    Raises:
        ValueError: When the first network has a child that is called as another network is.
    """
    seen: set[str] = set()
    for component, network in networks.items():
        for name, layer in network.named_modules():
            full = full_name(networks, component, name)
            if full in seen:
                msg = f"{full}: two layers of the base are called so; call the component {component!r} otherwise"
                raise ValueError(msg)
            seen.add(full)
            yield full, layer
