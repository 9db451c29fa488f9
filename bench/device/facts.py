"""What card this is, and what it takes before any tensor."""

from __future__ import annotations

import torch

from bench.device.stage import MIB, Stage
from lora_foundry.config.version import code_version


def facts(stage: Stage) -> None:
    """Versions, the card, its context."""
    table = stage.table("The card", "what", "is")
    stage.row(table, "torch", torch.__version__)
    stage.row(table, "code", code_version())
    if stage.small:
        stage.row(table, "device", f"the CPU, {torch.get_num_threads()} threads (a small look)")
        return
    card = torch.cuda.get_device_properties(stage.device)
    stage.row(table, "card", card.name)
    stage.row(table, "memory", f"{card.total_memory / MIB:.0f} MiB")
    stage.row(table, "compute capability", f"{card.major}.{card.minor}, {card.multi_processor_count} multiprocessors")
    stage.row(table, "CUDA of torch", str(torch.version.cuda))
    stage.row(table, "computes bf16 natively", str(torch.cuda.is_bf16_supported(including_emulation=False)))
    for name, taken in _context(stage):
        stage.row(table, name, f"{taken / MIB:.0f} MiB")


def _context(stage: Stage) -> list[tuple[str, int]]:
    """Bytes of the card that are no tensors: bare, and once matrix products and convolutions have run."""
    bare = _beside_tensors(stage)
    some = torch.randn(1024, 1024, device=stage.device, dtype=torch.bfloat16, requires_grad=True)
    (some @ some).sum().backward()  # type: ignore[no-untyped-call]
    picture = torch.randn(1, 64, 64, 64, device=stage.device, dtype=torch.bfloat16)
    torch.nn.functional.conv2d(picture, torch.randn(64, 64, 3, 3, device=stage.device, dtype=torch.bfloat16))
    workspaces = torch.cuda.memory_allocated(stage.device) - sum(t.nbytes for t in (some, some, picture))
    return [
        ("CUDA context, bare", bare),
        ("CUDA context with cuBLAS and cuDNN", _beside_tensors(stage)),
        ("workspaces that count as tensors", max(0, workspaces)),
    ]


def _beside_tensors(stage: Stage) -> int:
    torch.zeros(1, device=stage.device)
    stage.sync()
    free, total = torch.cuda.mem_get_info(stage.device)
    return total - free - torch.cuda.memory_reserved(stage.device)
