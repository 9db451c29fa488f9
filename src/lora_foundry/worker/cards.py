"""``python -m lora_foundry.worker.cards``: what torch says of the cards here, as a line on standard output.

A process of its own, which ends at once: the launcher imports no torch, and a process that asked a card keeps memory of
it as long as it lives.
"""

from __future__ import annotations

import sys

from lora_foundry.config.surroundings import settle
from lora_foundry.wire.cards import ANSWERS, TorchCard, TorchSays


def main() -> None:
    """Ask and tell."""
    settle()
    sys.stdout.buffer.write(ANSWERS.written(asked()))


def asked() -> TorchSays:
    """What torch says; a card that computes nothing is told with the reason."""
    import torch

    from lora_foundry.training.probing import reason_of

    problem, cards = None, []
    try:
        torch.cuda.init()
        cards = [_card(number) for number in range(torch.cuda.device_count())]
    except (RuntimeError, AssertionError, torch.cuda.DeferredCudaCallError) as error:
        problem = reason_of(error)
    return TorchSays(
        version=torch.__version__, cuda=torch.version.cuda, hip=torch.version.hip, cards=tuple(cards), problem=problem
    )


def _card(number: int) -> TorchCard:
    import torch

    from lora_foundry.training.probing import compute, is_short, reason_of

    device, free, problem = torch.device("cuda", number), None, None
    seen = torch.cuda.get_device_properties(device)
    try:
        free = torch.cuda.mem_get_info(device)[0]
        compute(device)
    except RuntimeError as error:
        problem = None if is_short(error, device) else reason_of(error)  # others have its memory just now
    return TorchCard(
        name=seen.name,
        total=seen.total_memory,
        free=free,
        capability=None if torch.version.hip else (seen.major, seen.minor),
        architecture=seen.gcnArchName if torch.version.hip else None,
        problem=problem,
    )


if __name__ == "__main__":
    main()
