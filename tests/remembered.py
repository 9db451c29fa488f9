"""What Hydra and OmegaConf work out anew for each configuration, and is the same for the same text: kept meanwhile.

Tests compose some thousands of configurations from the same twenty files. A quarter of the time of each goes into YAML
and into the grammar of ``${...}``; both are functions of a text alone, so whatever a test writes is read as it is.
"""

from __future__ import annotations

import copy
import sys
from functools import lru_cache
from typing import Any

import omegaconf
import yaml
from omegaconf import grammar_parser

_MOST = 4096  # texts


def remember() -> None:
    """From here on, in this process."""
    _remember_yaml()
    plain = grammar_parser.parse
    kept = lru_cache(_MOST)(plain)
    for name, module in list(sys.modules.items()):
        if name.startswith(omegaconf.__name__) and getattr(module, "parse", None) is plain:
            module.parse = kept  # type: ignore[attr-defined]


def _remember_yaml() -> None:
    load, known = yaml.load, dict[str, Any]()

    def loaded(stream: Any, Loader: Any) -> Any:  # noqa: N803  # yaml's word
        if Loader.__name__ != "OmegaConfLoader":
            return load(stream, Loader)
        text = stream if isinstance(stream, str) else stream.read()
        if text not in known:
            if text is not stream:
                stream.seek(0)  # what is wrong with a file is told with its name
            found = load(stream, Loader)
            if len(known) >= _MOST:
                known.clear()
            known[text] = found
        return copy.deepcopy(known[text])

    yaml.load = loaded
