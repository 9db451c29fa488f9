"""What the driver shows against what torch is built for and sees: each thing that can be wrong is one clear line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lora_foundry.config.errors import SweepError
from lora_foundry.config.launcher import Settings
from lora_foundry.launch.machines import asking, cards
from lora_foundry.launch.machines.asking import driver_files
from lora_foundry.launch.machines.cards import cards_here
from lora_foundry.launch.machines.engine import Slot
from lora_foundry.launch.machines.engines import local
from lora_foundry.launch.machines.engines.local import LocalEngine
from lora_foundry.launch.machines.environment import worker_environment
from lora_foundry.launch.machines.torch_build import TorchBuild, read_build, torch_build
from lora_foundry.wire.cards import ANSWERS, TorchCard, TorchSays
from lora_foundry.wire.commands import OwnDevice
from tests.launch.fake_nvml import GIB, Card, fake_nvml
from tests.phrases import DAMAGED, ON_THE_CPU, RESTART

A, B = "GPU-aaaa1111-0000", "GPU-bbbb2222-0000"
OF_CUDA = TorchBuild(version="2.13.0+cu130", cuda="13.0")
OF_CPU = TorchBuild(version="2.13.0+cpu")
OF_ROCM = TorchBuild(version="2.13.0+rocm7.1", hip="7.1")
RADEON = TorchCard(
    name="AMD Radeon RX 7900 XTX", total=24 * GIB, free=22 * GIB, capability=None, architecture="gfx1100", problem=None
)
Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """``machine(card, build=..., files=..., says=...)``: what the driver, the disk and torch show."""

    def make(
        *shown: Card,
        build: TorchBuild | None = OF_CUDA,
        driver: str | None = None,
        files: tuple[str, ...] = (),
        says: TorchSays | None = None,
        **variables: str,
    ) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(shown, problem=driver))
        monkeypatch.setattr(local, "torch_build", lambda: build)
        devices = tmp_path / "dev"
        devices.mkdir(exist_ok=True)
        for name in files:
            (devices / name).touch()
        monkeypatch.setattr(cards, "driver_files", lambda of: driver_files(of, devices))
        asked = (lambda: says) if says else lambda: pytest.fail("torch was asked where nothing hints at a GPU")
        monkeypatch.setattr(cards, "torch_says", asked)
        for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return make


def _says(*seen: TorchCard, problem: str | None = None, hip: str | None = None) -> TorchSays:
    return TorchSays(version="2.13.0", cuda=None if hip else "13.0", hip=hip, cards=seen, problem=problem)


def _refused(accelerator: str = "auto") -> str:
    with pytest.raises(SweepError) as caught:
        LocalEngine(Settings()).slots(accelerator)
    (line,) = caught.value.problems
    assert "\n" not in line
    assert ON_THE_CPU in line
    return line


@pytest.mark.parametrize("accelerator", ["auto", "gpu"])
@pytest.mark.parametrize(("build", "built"), [(OF_CPU, "the CPU"), (OF_ROCM, "ROCm 7.1")])
def test_cards_that_torch_is_not_built_for_are_refused_before_anything_starts(
    machine: Machine, accelerator: str, build: TorchBuild, built: str
) -> None:
    """``shared/cases/nvml-shows-torch-does-not``: such jobs were trained on the CPU, each on all cores."""
    machine(Card(bus=1, uuid=A, name="NVIDIA GeForce RTX 4090"), Card(bus=2, uuid=B), build=build)
    line = _refused(accelerator)
    assert line.startswith(f"trainer.accelerator: got {accelerator}, but the driver shows 2 GPUs (NVIDIA GeForce RTX")
    assert f"and installed is torch {build.version}, built for {built}; " in line
    assert [slot.device for slot in LocalEngine(Settings()).slots("cpu")] == ["cpu"]


def test_a_build_for_the_cpu_is_said_how_to_replace(machine: Machine) -> None:
    machine(Card(bus=1, uuid=A), build=OF_CPU)
    assert "install a torch that is built for CUDA or ROCm (README: On a GPU)" in _refused()


def test_another_program_may_have_a_torch_of_its_own(machine: Machine) -> None:
    machine(Card(bus=1, uuid=A), build=OF_CPU)
    engine = LocalEngine(Settings(worker_command=("/opt/cuda/python", "-m", "lora_foundry.worker")))
    assert [slot.device for slot in engine.slots("auto")] == ["cuda:0"]


def test_on_rocm_the_slots_are_torchs(machine: Machine) -> None:
    machine(
        build=OF_ROCM, driver="NVML Shared Library Not Found", files=("kfd",), says=_says(RADEON, RADEON, hip="7.1")
    )
    slots = LocalEngine(Settings()).slots("auto")
    assert [(slot.name, slot.device, slot.visible) for slot in slots] == [
        ("cuda-0", "cuda:0", "0"),
        ("cuda-1", "cuda:1", "1"),
    ]
    assert slots[0].memory == int(22 * GIB * 0.8)
    assert slots[0].about == "AMD Radeon RX 7900 XTX, 22.0 of 24.0 GiB free"
    assert worker_environment(slots[1], {})["HIP_VISIBLE_DEVICES"] == "1"


@pytest.mark.parametrize("variable", ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"])
def test_torchs_cards_keep_the_numbers_that_the_environment_gave_them(machine: Machine, variable: str) -> None:
    machine(build=OF_ROCM, files=("kfd",), says=_says(RADEON, RADEON, hip="7.1"), **{variable: "3,1"})
    slots = LocalEngine(Settings()).slots("auto")
    assert [(slot.name, slot.visible) for slot in slots] == [("cuda-3", "3"), ("cuda-1", "1")]


@pytest.mark.parametrize("files", [("nvidia0",), ("nvhost-gpu",)])
def test_cuda_without_the_drivers_library_is_asked_of_torch(machine: Machine, files: tuple[str, ...]) -> None:
    """A Jetson, a container that was given no ``utility``."""
    orin = TorchCard(name="Orin", total=8 * GIB, free=6 * GIB, capability=(8, 7), architecture=None, problem=None)
    machine(driver="NVML Shared Library Not Found", files=files, says=_says(orin))
    (slot,) = LocalEngine(Settings()).slots("gpu")
    assert (slot.device, slot.model, slot.memory) == ("cuda:0", "Orin", int(6 * GIB * 0.8))


def test_a_gpu_by_its_files_that_torch_cannot_use_is_refused_with_both_reasons(machine: Machine) -> None:
    says = _says(problem="CUDA unknown error - this may be due to an incorrectly set up environment")
    machine(driver="Driver/library version mismatch", files=("nvidia0",), says=says)
    line = _refused()
    assert "/dev/nvidia0 is there, the driver (NVML) says Driver/library version mismatch, and torch says" in line
    assert RESTART in line


def test_no_right_to_the_card_is_said_so(machine: Machine) -> None:
    machine(driver="Insufficient Permissions", files=("nvidia0",), says=_says(problem="No CUDA GPUs are available"))
    assert "give this user the right to /dev/nvidia* or /dev/kfd" in _refused("gpu")


def test_a_card_with_a_damaged_memory_is_refused_by_name(machine: Machine) -> None:
    bad = TorchCard(
        name="AMD Instinct MI100",
        total=32 * GIB,
        free=None,
        capability=None,
        architecture="gfx908",
        problem="HIP error: uncorrectable ECC error encountered",
    )
    machine(build=OF_ROCM, files=("kfd",), says=_says(bad, hip="7.1"))
    line = _refused()
    assert "torch says AMD Instinct MI100: HIP error: uncorrectable ECC error encountered" in line
    assert DAMAGED in line
    machine(build=OF_ROCM, files=("kfd",), says=_says(bad, RADEON, hip="7.1"))
    assert [slot.visible for slot in LocalEngine(Settings()).slots("auto")] == ["1"], "the other one is used"


def test_all_cards_lost_is_an_error_and_one_of_two_is_told_where_it_is_asked_for(machine: Machine) -> None:
    machine(Card(bus=1, uuid=A, gone=True))
    assert "the driver says of GPU 0: GPU is lost; the card is gone" in _refused()
    machine(Card(bus=1, uuid=A), Card(bus=2, uuid=B, gone=True))
    with pytest.raises(SweepError, match=r"got \[1\], allowed are 0 \(as nvidia-smi counts; GPU 1: GPU is lost\)"):
        LocalEngine(Settings(devices=(1,))).slots("auto")


@pytest.mark.parametrize(
    "there",
    [
        {"build": OF_CUDA},
        {"build": OF_CPU, "files": ("nvidia0", "kfd")},
        {"build": OF_CUDA, "files": ("kfd",)},  # an AMD processor's own graphics
        {"build": OF_CUDA, "files": ("nvidia0",), "CUDA_VISIBLE_DEVICES": ""},
        {"build": None, "files": ("nvidia0",)},
    ],
    ids=["nothing", "torch for the CPU", "another maker's", "hidden", "unknown torch"],
)
def test_torch_is_not_asked_without_need(machine: Machine, there: dict) -> None:
    machine(driver="NVML Shared Library Not Found", **there)
    assert [slot.device for slot in LocalEngine(Settings()).slots("auto")] == ["cpu"]


def test_apples_gpu_is_refused_by_name(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(driver="NVML Shared Library Not Found")
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SweepError, match=r"Apple's GPUs \(MPS\) are refused: nobody has tried them yet"):
        LocalEngine(Settings()).slots("gpu")


def test_a_worker_on_the_cpu_sees_no_gpu_of_any_maker() -> None:
    given = {"CUDA_VISIBLE_DEVICES": "0", "HIP_VISIBLE_DEVICES": "0"}
    made = worker_environment(Slot(name="cpu", device="cpu"), given)
    assert (made["CUDA_VISIBLE_DEVICES"], made["HIP_VISIBLE_DEVICES"]) == ("", "-1")


def test_a_worker_is_told_its_device_and_its_share_of_what_is_free(machine: Machine) -> None:
    machine(Card(bus=1, uuid=A, free=20 * GIB))
    one, two = LocalEngine(Settings(slots=2)).slots("gpu")
    assert one.own == two.own == OwnDevice(kind="cuda", memory=10 * GIB)
    assert LocalEngine(Settings()).slots("cpu")[0].own == OwnDevice(kind="cpu")


def test_the_build_is_read_without_importing_torch(tmp_path: Path) -> None:
    import torch

    found = torch_build()
    assert found == TorchBuild(version=str(torch.__version__), cuda=torch.version.cuda, hip=torch.version.hip)
    file = tmp_path / "version.py"
    file.write_text("from typing import Optional\n__version__ = '2.4.0'\ncuda = '12.4'\nhip: Optional[str] = None\n")
    assert read_build(file) == TorchBuild(version="2.4.0", cuda="12.4")
    file.write_text("__version__ = ")
    assert read_build(file) is None


def test_what_torch_says_is_a_line_and_back() -> None:
    said = _says(RADEON, hip="7.1")
    assert ANSWERS.read(ANSWERS.written(said)) == said


def test_a_torch_that_does_not_answer_is_a_problem_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    words = "import sys; sys.exit('libamdhip64.so: cannot open shared object file')"
    monkeypatch.setattr(asking, "ASK", (sys.executable, "-c", words))
    assert asking.ask().problem == (
        "torch was asked what it sees and did not answer (status 1): libamdhip64.so: cannot open shared object file"
    )
    monkeypatch.setattr(asking, "ASK", ("/nowhere/python",))
    assert "No such file" in str(asking.ask().problem)


def test_the_same_is_not_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(asking, "ask", lambda: asked.append(1) or _says(RADEON))
    monkeypatch.setattr(asking, "_answers", {})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert asking.torch_says() == asking.torch_says()
    assert len(asked) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    asking.torch_says()
    assert len(asked) == 2


@pytest.mark.slow
def test_the_real_torch_is_asked_by_name() -> None:
    import torch

    said = asking.ask()
    assert said.version == torch.__version__
    assert bool(said.cards) == torch.cuda.is_available()
    if not said.cards:
        assert said.problem


def test_an_unknown_build_still_has_the_drivers_cards(machine: Machine) -> None:
    machine(Card(bus=1, uuid=A), build=None)
    assert [card.uuid for card in cards_here(None).cards] == [A]


@pytest.mark.parametrize(
    ("build", "card", "precision"),
    [
        (OF_ROCM, RADEON, "bf16-mixed"),
        (OF_ROCM, replace(RADEON, architecture="gfx1030"), "16-mixed"),
        (OF_CUDA, replace(RADEON, architecture=None, capability=(8, 7)), "bf16-mixed"),  # an Orin
        (OF_CUDA, replace(RADEON, architecture=None, capability=(7, 2)), "16-mixed"),  # a Xavier
    ],
)
def test_a_card_that_only_torch_sees_is_given_what_it_computes_by_itself(
    build: TorchBuild, card: TorchCard, precision: str, machine: Machine
) -> None:
    machine(build=build, files=("kfd", "nvmap"), says=_says(card, hip=build.hip))
    assert [slot.precision for slot in LocalEngine(Settings()).slots("auto")] == [precision]
