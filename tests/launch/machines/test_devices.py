"""Cards as the driver tells of them, and what CUDA_VISIBLE_DEVICES leaves."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Sequence
from ctypes import CDLL
from pathlib import Path

import pytest

from lora_foundry.config.errors import SweepError
from lora_foundry.config.launcher import Settings
from lora_foundry.launch.machines.devices import Gpu, Tenant, gpus
from lora_foundry.launch.machines.engines.local import LocalEngine
from lora_foundry.launch.machines.torch_build import TorchBuild
from lora_foundry.launch.machines.visibility import visible
from tests.launch.fake_nvml import GIB, Card, fake_nvml
from tests.root import PROJECT_ROOT

OF_CUDA = TorchBuild(version="2.13.0+cu130", cuda="13.0")
A, B = "GPU-aaaa1111-0000", "GPU-bbbb2222-0000"
Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """``machine(card, card, visible="0")`` is a machine with these cards and that environment."""

    def make(*cards: Card, visible: str | None = None, driver: bool = True) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(cards, driver=driver))
        monkeypatch.setattr("lora_foundry.launch.machines.engines.local.torch_build", lambda: OF_CUDA)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return make


def test_cards_are_counted_along_the_bus_with_what_is_free_on_each(machine: Machine) -> None:
    machine(Card(bus=9, uuid=B, free=3 * GIB), Card(bus=1, uuid=A, name=b"An old card", capability=(7, 5)))
    assert gpus() == [
        Gpu(index=0, uuid=A, name="An old card", capability=(7, 5), total=24 * GIB, free=20 * GIB),
        Gpu(index=1, uuid=B, name="A card", capability=(8, 9), total=24 * GIB, free=3 * GIB),
    ]
    assert sys.modules["pynvml"].state.open == 0, "the driver is let go again"  # type: ignore[attr-defined]


def test_what_others_have_taken_is_named(machine: Machine) -> None:
    taken = [(11, GIB), (12, 3 * GIB), (13, None), (14, 2 * GIB)]
    machine(Card(bus=1, uuid=A, free=18 * GIB, compute=taken, graphics=[(11, GIB), (15, 2**20)]))
    (card,) = gpus()
    assert set(card.tenants) == {Tenant(pid=pid, taken=size) for pid, size in [*taken, (15, 2**20)]}
    (slot,) = LocalEngine(Settings()).slots("gpu")
    assert slot.about == (
        "A card, 18.0 of 24.0 GiB free; others on it: pid 12 3072 MiB, pid 14 2048 MiB, pid 11 1024 MiB, 2 more"
    )
    assert slot.memory == int(18 * GIB * 0.8)


def test_a_card_that_tells_less_is_used_and_one_that_is_lost_is_not(machine: Machine) -> None:
    machine(Card(bus=1, uuid=A, total=None, graphics=None), Card(bus=2, uuid=B, gone=True))
    (card,) = gpus()
    assert (card.total, card.free, card.tenants) == (None, None, ())
    (slot,) = LocalEngine(Settings()).slots("gpu")
    assert slot.memory is None


def test_a_card_that_is_cut_up_is_its_instances(machine: Machine) -> None:
    parts = [Card(bus=0, uuid="MIG-1", total=5 * GIB, free=5 * GIB), None, Card(bus=0, uuid="MIG-2", free=4 * GIB)]
    machine(Card(bus=1, uuid=A), Card(bus=2, uuid=B, parts=parts))
    slots = LocalEngine(Settings()).slots("gpu")
    assert [(slot.name, slot.visible, slot.lock) for slot in slots] == [
        ("cuda-0", A, f"cuda-{A}"),
        ("cuda-1.0", "MIG-1", "cuda-MIG-1"),
        ("cuda-1.2", "MIG-2", "cuda-MIG-2"),
    ]
    assert [slot.name for slot in LocalEngine(Settings(devices=(1,))).slots("gpu")] == ["cuda-1.0", "cuda-1.2"]


@pytest.mark.parametrize(
    ("capability", "precision"), [((7, 5), "16-mixed"), ((8, 0), "bf16-mixed"), (None, "16-mixed")]
)
def test_a_slot_has_the_precision_that_its_card_computes_by_itself(
    machine: Machine, capability: tuple[int, int] | None, precision: str
) -> None:
    machine(Card(bus=1, uuid=A, capability=capability))
    assert [slot.precision for slot in LocalEngine(Settings()).slots("gpu")] == [precision]
    assert [slot.precision for slot in LocalEngine(Settings()).slots("cpu")] == ["32-true"]


def test_an_instance_computes_what_its_card_does(machine: Machine) -> None:
    parts = [Card(bus=0, uuid="MIG-1", capability=None)]
    machine(Card(bus=1, uuid=A, capability=(9, 0), parts=parts))
    assert [slot.precision for slot in LocalEngine(Settings()).slots("gpu")] == ["bf16-mixed"]
    machine(Card(bus=1, uuid=A), visible="MIG-GPU-aaaa1111/7/0")
    assert [slot.precision for slot in LocalEngine(Settings()).slots("gpu")] == ["bf16-mixed"], "cut up: 8.0 at least"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (None, [0, 1]),
        ("", []),
        ("-1", []),
        ("1", [1]),
        ("1,0", [1, 0]),
        (" 1 , 1", []),  # where a card is named twice, torch sees none
        (f"{A},GPU-aaaa", []),
        ("0gpu", [0]),  # of a word CUDA reads the number that it begins with
        ("0 1", [0]),
        ("+1", [1]),
        ("\u00b2", []),
        ("0,-1,1", [0]),
        (f"0,{B}", [0]),  # words are of the first one's kind
        (f"{B},0", [1]),
        ("0,7,1", [0]),  # CUDA hides what follows a word that names no card
        (B, [1]),
        ("GPU-bbbb", [1]),
        ("GPU-", []),  # names both
        ("GPU-cccc,0", []),
        (f"{B},{A}", [1, 0]),
        ("none", []),
    ],
)
def test_the_environment_leaves(text: str | None, left: Sequence[int]) -> None:
    cards = [Gpu(index=0, uuid=A, name="A card"), Gpu(index=1, uuid=B, name="A card")]
    assert [card.index for card in visible(cards, text)] == list(left)


@pytest.mark.parametrize("word", ["MIG-GPU-aaaa1111/7/0", "MIG-ab-cd"])
def test_an_instance_that_the_driver_does_not_list_is_taken_at_its_word(machine: Machine, word: str) -> None:
    machine(Card(bus=1, uuid=A), visible=word)
    (slot,) = LocalEngine(Settings()).slots("gpu")
    assert (slot.visible, slot.memory) == (word, None)
    assert "/" not in f"{slot.name}{slot.lock}"


def test_a_worker_sees_its_card_by_its_uuid(machine: Machine, tmp_path: Path) -> None:
    machine(Card(bus=1, uuid=A), Card(bus=2, uuid=B), visible=B)
    show = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"
    engine = LocalEngine(Settings(worker_command=(sys.executable, "-c", show)))
    (slot,) = engine.slots("auto")
    worker = engine.start(slot, tmp_path, tmp_path)
    assert worker.leave(20.0) == 0
    assert worker.log.read_text().strip() == B


def test_devices_counts_what_is_visible(machine: Machine) -> None:
    machine(Card(bus=1, uuid=A), Card(bus=2, uuid=B))
    assert [slot.device for slot in LocalEngine(Settings(devices=(1, 0, 1))).slots("auto")] == ["cuda:1", "cuda:0"]
    with pytest.raises(SweepError, match=r"got \[0, 7\], allowed are 0, 1 \(as nvidia-smi counts\)"):
        LocalEngine(Settings(devices=(0, 7))).slots("auto")
    machine(Card(bus=1, uuid=A), Card(bus=2, uuid=B), visible="1")
    with pytest.raises(SweepError, match=r"got \[0\], allowed are 1 \(CUDA_VISIBLE_DEVICES=1 hides all others\)"):
        LocalEngine(Settings(devices=(0,))).slots("auto")


def test_without_a_driver_there_is_the_cpu(machine: Machine) -> None:
    machine(driver=False)
    assert gpus() == []
    assert [slot.device for slot in LocalEngine(Settings()).slots("auto")] == ["cpu"]
    with pytest.raises(SweepError, match=r"got gpu, but the driver \(NVML\) shows none; allowed here is cpu or auto"):
        LocalEngine(Settings()).slots("gpu")
    machine(Card(bus=1, uuid=A), visible="")
    assert [slot.device for slot in LocalEngine(Settings()).slots("auto")] == ["cpu"]
    with pytest.raises(SweepError, match="CUDA_VISIBLE_DEVICES='' leaves none"):
        LocalEngine(Settings()).slots("gpu")


@pytest.mark.parametrize(
    ("accelerator", "why"),
    [("auto", r"the driver \(NVML\) shows none"), ("cpu", "trainer.accelerator=cpu uses none")],
)
def test_gpus_that_are_asked_for_by_number_are_not_left_for_the_cpu(
    machine: Machine, accelerator: str, why: str
) -> None:
    machine(driver=False)
    with pytest.raises(SweepError, match=rf"devices: got \[0, 1\], which are GPUs, but {why}; leave it null"):
        LocalEngine(Settings(devices=(0, 1))).slots(accelerator)


def _has_driver() -> bool:
    try:
        CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def test_the_real_library_agrees_on_whether_there_is_a_driver() -> None:
    assert importlib.util.find_spec("pynvml") is not None
    assert bool(gpus()) == _has_driver()


@pytest.mark.slow
def test_help_does_not_load_it() -> None:
    heavy = "('pynvml', 'psutil')"
    look = f"import sys, lora_foundry.launch.farm.launching; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", look], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
