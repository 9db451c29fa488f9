"""What the driver shows against what torch is built for and sees: each thing that can be wrong is one clear line."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lora_foundry.config.errors import SweepError
from lora_foundry.config.launcher import Settings
from lora_foundry.launch.machines import asking, cards, devices
from lora_foundry.launch.machines.asking import driver_files
from lora_foundry.launch.machines.cards import cards_here
from lora_foundry.launch.machines.devices import Gpu, Tenant
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
_VERSIONS = ("nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion_v2")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """``machine(card, build=..., files=..., says=...)``: what the driver, the disk and torch show."""

    def make(
        *shown: Card,
        build: TorchBuild | None = OF_CUDA,
        driver: str | None = None,
        runs: int | None = 13000,
        files: tuple[str, ...] = (),
        says: TorchSays | None = None,
        **variables: str,
    ) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(shown, problem=driver, cuda=runs))
        monkeypatch.setattr(local, "torch_build", lambda: build)
        folder = tmp_path / "dev"
        folder.mkdir(exist_ok=True)
        for name in files:
            (folder / name).touch()
        monkeypatch.setattr(cards, "driver_files", lambda of: driver_files(of, folder))
        asked = (lambda: says) if says else lambda: pytest.fail("torch was asked where nothing hints at a GPU")
        monkeypatch.setattr(cards, "torch_says", asked)
        for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
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
    assert "torch says GPU 0 (AMD Instinct MI100): HIP error: uncorrectable ECC error encountered" in line
    assert DAMAGED in line
    machine(build=OF_ROCM, files=("kfd",), says=_says(bad, RADEON, hip="7.1"))
    assert [slot.visible for slot in LocalEngine(Settings()).slots("auto")] == ["1"], "the other one is used"


def test_a_driver_that_is_too_old_is_refused_in_torchs_own_words_before_anything_starts(machine: Machine) -> None:
    words = "The NVIDIA driver on your system is too old (found version 12040). Please update your GPU driver."
    machine(Card(bus=1, uuid=A), runs=12040, says=_says(problem=words))
    line = _refused()
    assert "the driver 580.95.05 shows 1 GPU (A card) and runs CUDA up to 12.4, installed is torch 2.13.0+cu130" in line
    assert f"torch says {words.rstrip('.')}; bring the driver up to date, or install a torch" in line


def test_a_newer_cuda_beside_an_old_driver_is_taken(machine: Machine) -> None:
    """NVIDIA's forward compatibility: torch finds another ``libcuda``, and says that it has the card."""
    seen = TorchCard(name="A card", total=GIB, free=GIB, capability=(8, 9), architecture=None, problem=None)
    machine(Card(bus=1, uuid=A), runs=12040, says=_says(seen))
    assert [slot.visible for slot in LocalEngine(Settings()).slots("auto")] == [A]


@pytest.mark.parametrize(("runs", "cuda"), [(13000, "13.0"), (13000, "12.6"), (12040, "12.6"), (None, "13.0")])
def test_torch_is_not_asked_of_a_driver_that_is_new_enough(machine: Machine, runs: int | None, cuda: str) -> None:
    """A driver runs what is built for an older CUDA, and for a newer one of its own major version."""
    machine(Card(bus=1, uuid=A), runs=runs, build=TorchBuild(version="2.13.0", cuda=cuda))
    assert len(LocalEngine(Settings()).slots("auto")) == 1


def test_a_card_that_this_torch_has_nothing_for_is_left_out_and_alone_refused(machine: Machine) -> None:
    old = Card(bus=1, uuid=A, name="Tesla V100", capability=(7, 0))
    machine(old)
    line = _refused()
    assert "GPU 0 (Tesla V100) has compute capability 7.0, and torch 2.13.0+cu130, built for CUDA 13.0, has" in line
    assert "nothing for cards below 7.5; this torch has nothing for a card of that age" in line
    machine(old, Card(bus=2, uuid=B))
    engine = LocalEngine(Settings())
    assert [slot.name for slot in engine.slots("auto")] == ["cuda-1"]
    assert len(engine.left_out) == 1
    machine(old, build=TorchBuild(version="2.13.0+cu126", cuda="12.6"))
    assert [slot.precision for slot in LocalEngine(Settings()).slots("auto")] == ["16-mixed"]


@pytest.mark.parametrize(
    "hidden",
    [
        *("7", "GPU-cccc", "MIG-cccc", "7,0", "GPU-", "gpu-aaaa", "cuda:0", "gpu0", "all", "'0'", "[0]", ",0", "0,0"),
        "\u00b2",
    ],
)
def test_a_variable_that_names_no_card_is_a_mistake(machine: Machine, hidden: str) -> None:
    """CUDA would show none then, and the training would go to the CPU."""
    machine(Card(bus=1, uuid=A, parts=[Card(bus=0, uuid="MIG-1")]), CUDA_VISIBLE_DEVICES=hidden)
    if hidden == "MIG-cccc":  # an older driver's name for an instance
        assert [slot.visible for slot in LocalEngine(Settings()).slots("auto")] == [hidden]
        return
    line = _refused()
    assert (
        f"CUDA_VISIBLE_DEVICES={hidden!r} names no card here; the driver shows 0.0 (MIG-1); name one of those" in line
    )


@pytest.mark.parametrize("hidden", ["", " ", "-1", "-2", "NoDevFiles", "none", "void"])
def test_a_variable_that_hides_every_card_is_obeyed(machine: Machine, hidden: str) -> None:
    machine(Card(bus=1, uuid=A), CUDA_VISIBLE_DEVICES=hidden)
    assert [slot.device for slot in LocalEngine(Settings()).slots("auto")] == ["cpu"]


@pytest.mark.parametrize(
    ("variable", "hidden"),
    [
        ("HIP_VISIBLE_DEVICES", "-1"),
        ("HIP_VISIBLE_DEVICES", ""),
        ("ROCR_VISIBLE_DEVICES", ""),
        ("CUDA_VISIBLE_DEVICES", "NoDevFiles"),
    ],
)
def test_what_hides_amds_cards_is_obeyed_where_torch_is_built_for_them(
    machine: Machine, variable: str, hidden: str
) -> None:
    there = {"driver": "NVML Shared Library Not Found", "says": _says(problem="no HIP GPUs are available", hip="7.1")}
    machine(build=OF_ROCM, files=("kfd",), **there, **{variable: hidden})
    assert [slot.device for slot in LocalEngine(Settings()).slots("auto")] == ["cpu"]
    machine(build=OF_ROCM, files=("kfd",), **there, **{variable: "0"})
    line = _refused()
    assert "no HIP GPUs are available" in line
    assert "NVML" not in line, "NVIDIA's library has nothing to say of AMD's cards"
    if variable != "CUDA_VISIBLE_DEVICES":
        machine(Card(bus=1, uuid=A), **{variable: hidden})
        assert [slot.device for slot in LocalEngine(Settings()).slots("auto")] == ["cuda:0"], "torch for CUDA does not"


def test_a_card_that_is_cut_up_into_nothing_is_told(machine: Machine) -> None:
    machine(Card(bus=1, uuid=A, parts=()))
    assert "GPU 0: it is cut up (MIG) and has no instance; make instances" in _refused()
    machine(Card(bus=1, uuid=A, parts=()), Card(bus=2, uuid=B))
    engine = LocalEngine(Settings())
    assert [slot.name for slot in engine.slots("auto")] == ["cuda-1"]
    assert engine.left_out[0].startswith("GPU 0: it is cut up")


def test_a_card_that_lets_in_one_process_is_no_card_for_two_workers(machine: Machine) -> None:
    machine(Card(bus=1, uuid=A, mode=3), Card(bus=2, uuid=B))
    assert len(LocalEngine(Settings()).slots("auto")) == 2
    with pytest.raises(SweepError, match=r"slots: got 2, but GPU 0 lets in one process at a time .* or leave it at 1"):
        LocalEngine(Settings(slots=2)).slots("auto")
    assert len(LocalEngine(Settings(slots=2, devices=(1,))).slots("auto")) == 2


def test_a_card_that_lets_nobody_in_is_told(machine: Machine) -> None:
    machine(Card(bus=1, uuid=A, mode=2))
    assert "the driver says of GPU 0: its compute mode is Prohibited; one process has" in _refused()


def test_a_lost_card_is_told_where_others_are_used(machine: Machine) -> None:
    machine(Card(bus=1, uuid=A), Card(bus=2, uuid=B, gone=True))
    engine = LocalEngine(Settings())
    engine.slots("auto")
    assert [line.partition("; ")[0] for line in engine.left_out] == ["GPU 1: GPU is lost"]
    engine.slots("cpu")
    assert engine.left_out == ()
    engine = LocalEngine(Settings(devices=(0,)))
    engine.slots("auto")
    assert engine.left_out == (), "nobody asked for it"


def test_a_driver_that_hangs_is_told_and_not_waited_for(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(files=("nvidia0",), says=_says(problem="CUDA unknown error - this may be due to"))
    end = threading.Event()
    monkeypatch.setattr(sys.modules["pynvml"], "nvmlInit", end.wait)
    monkeypatch.setattr(devices, "_PATIENCE_S", 0.05)
    try:
        assert (
            "the driver (NVML) says the driver did not answer within 0.05 s, and torch says CUDA unknown" in _refused()
        )
    finally:
        end.set()


def test_whatever_else_goes_wrong_in_asking_the_driver_is_told_as_its_problem(machine: Machine) -> None:
    machine(Card(bus=1, uuid=A))  # and no file of a driver, as on WSL2
    del sys.modules["pynvml"].nvmlDeviceGetUUID  # type: ignore[attr-defined]  # of a fake
    assert "failed: AttributeError: module 'pynvml' has no attribute 'nvmlDeviceGetUUID'" in _refused()


def test_a_library_that_has_no_more_than_it_takes_is_enough(machine: Machine) -> None:
    """``shared/cases/nvml-shows-torch-does-not`` has none of these, and ended in a traceback."""
    machine(Card(bus=1, uuid=A), Card(bus=2, uuid=B), build=OF_CPU)
    nvml = sys.modules["pynvml"]
    for name in (*_VERSIONS, "nvmlDeviceGetComputeMode", "nvmlDeviceGetCudaComputeCapability", "nvmlDeviceGetMigMode"):
        delattr(nvml, name)
    assert "the driver shows 2 GPUs (A card), and installed is torch 2.13.0+cpu" in _refused()


def test_a_card_that_is_lost_after_its_handle_was_given_is_told_as_lost(machine: Machine) -> None:
    machine(Card(bus=1, uuid=A), Card(bus=2, uuid=B))
    nvml = sys.modules["pynvml"]
    whole = nvml.nvmlDeviceGetUUID  # type: ignore[attr-defined]  # of a fake

    def lost(card: Card) -> str:
        if card.uuid == B:
            raise nvml.NVMLError("GPU is lost")  # type: ignore[attr-defined]
        return str(whole(card))

    nvml.nvmlDeviceGetUUID = lost  # type: ignore[attr-defined]
    engine = LocalEngine(Settings())
    assert [slot.name for slot in engine.slots("auto")] == ["cuda-0"]
    assert [line.partition("; ")[0] for line in engine.left_out] == ["GPU 1: GPU is lost"]


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


def test_a_process_that_is_asked_of_one_card_is_shown_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ASK", (sys.executable, "-c", "import os; print(os.environ['CUDA_VISIBLE_DEVICES'])"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    shown = [asking.AskedTorch(visible=visible).says().problem for visible in ("MIG-3", None)]
    assert shown == [f"torch was asked what it sees and answered {words!r}" for words in ("MIG-3", "0,1")]


def _stuck(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(asking, name, (sys.executable, "-c", "import time; time.sleep(60)"))


def test_who_is_asked_and_hangs_is_left_behind_even_where_nothing_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a driver that hangs a process cannot be killed; whoever waited for it would hang as well."""
    _stuck(monkeypatch, "ASK")
    _stuck(monkeypatch, "ASK_DRIVER")
    monkeypatch.setattr(asking, "_LAST_S", 0.05)
    monkeypatch.setattr("subprocess.Popen.kill", lambda _: None)
    began = time.monotonic()
    torch, driver = asking.AskedTorch(0.1), asking.AskedDriver(0.1)
    said, told = torch.says(), driver.says()
    assert time.monotonic() - began < 10
    assert said.problem == "torch was asked what it sees and did not answer within 0.1 s"
    assert told.problem == "the driver did not answer within 0.1 s"
    for one in (torch, driver):
        os.kill(one._asked._process.pid, signal.SIGKILL)
        os.waitpid(one._asked._process.pid, 0)


def test_the_driver_is_asked_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    told = devices.Driver(
        version="580.95.05",
        cuda=(13, 0),
        cards=(Gpu(index=0, uuid=A, name="A card", capability=(8, 9), tenants=(Tenant(pid=3, taken=None),)),),
        lost=("GPU 1: GPU is lost",),
    )
    assert devices.DRIVERS.read(devices.DRIVERS.written(told)) == told
    assert asking.AskedDriver().says() == devices.ask_driver(), "whatever this machine has"
    monkeypatch.setattr(asking, "ASK_DRIVER", (sys.executable, "-c", "print('{}')"))
    assert asking.AskedDriver().says().problem == "the driver answered '{}'"


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
