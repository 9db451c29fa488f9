"""What is to be done about a card that cannot be used, by what the driver, or torch, says of it.

Whoever meets such words says them as they are and puts these behind them: an error's own words are not translated.
"""

from __future__ import annotations

ON_THE_CPU = "trainer.accelerator=cpu trains without it"
# The first that is in the text counts; small letters.
_ADVICE: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("not compiled with cuda", "built for the cpu"),
        "install a torch that is built for CUDA or ROCm (README: On a GPU)",
    ),
    (
        ("driver on your system is too old", "driver version is insufficient"),
        "bring the driver up to date, or install a torch that is built for an older CUDA (README: On a GPU)",
    ),
    (
        ("driver/library version mismatch", "cuda unknown error", "driver not loaded", "error 803", "error 804"),
        "the driver's module and its libraries do not fit together, as after an update: restart the machine",
    ),
    (
        ("found no nvidia driver", "shared library not found"),
        "install the driver; a container is started with its GPUs (docker run --gpus all)",
    ),
    (
        ("no kernel image", "not compatible with the current pytorch", "has nothing for cards below"),
        "this torch has nothing for a card of that age: install one that is built for it (README: On a GPU)",
    ),
    (
        ("insufficient permissions", "no permission", "permission denied"),
        "give this user the right to /dev/nvidia* or /dev/kfd (groups video and render), or the container its devices",
    ),
    (
        ("uncorrectable ecc", "ecc error"),
        "the card's memory is damaged: reset it (nvidia-smi --gpu-reset) or restart the machine, and watch it",
    ),
    (
        ("cut up (mig)",),
        "make instances (nvidia-smi mig -cgi ... -C), or make it whole again (nvidia-smi -mig 0)",
    ),
    (("names no card here",), "name one of those, by its number or its UUID, or leave the variable unset"),
    (
        ("did not answer within",),
        "the driver hangs, as a card that is stuck lets it: where nvidia-smi hangs as well, restart the machine",
    ),
    (
        ("is lost", "fallen off the bus", "no cuda gpus", "no cuda-capable device", "no hip gpus"),
        "the card is gone: where nvidia-smi does not list it either, restart the machine",
    ),
    (("system not yet initialized",), "start NVIDIA's fabric manager (nvidia-fabricmanager)"),
    (
        ("busy or unavailable", "in use", "compute mode"),
        "one process has the card to itself, or nobody may have it: nvidia-smi says which, nvidia-smi -c 0 lets all in",
    ),
)


def advice_on(words: str) -> str:
    """What to do where the driver or torch says ``words``."""
    text = words.lower()
    return next(
        (advice for told, advice in _ADVICE if any(one in text for one in told)), "look at nvidia-smi or rocminfo"
    )


def mended(words: str) -> str:
    """``words`` with what to do about them, as one line."""
    line = " ".join(words.split()).rstrip(".")
    return f"{line}; {advice_on(words)}"


def unusable(words: str) -> str:
    """The same of what leaves no card: the CPU is what is left."""
    return f"{mended(words)}; {ON_THE_CPU}"
