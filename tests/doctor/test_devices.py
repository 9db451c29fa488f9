"""Each way in which a card may be there and be of no use is a line, and says whether a training begins all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest

from lora_foundry.config.compose import compose_job
from lora_foundry.config.schema import TrainerConfig
from lora_foundry.doctor import devices
from lora_foundry.doctor.devices import Examined, examine, plugged_in
from lora_foundry.launch.machines import cards
from lora_foundry.launch.machines.devices import Driver, Gpu, Tenant
from lora_foundry.launch.machines.torch_build import TorchBuild
from lora_foundry.wire.cards import TorchCard, TorchSays
from tests.launch.fake_nvml import GIB
from tests.phrases import CARD_IS_GONE, DAMAGED, DRIVER_HANGS, EMULATED, LETS_ALL_IN, ON_THE_CPU, RESTART

A, B = "GPU-aaaa1111-0000", "GPU-bbbb2222-0000"
OF_CUDA = TorchBuild(version="2.13.0+cu130", cuda="13.0")
OF_CPU = TorchBuild(version="2.13.0+cpu")
OF_ROCM = TorchBuild(version="2.13.0+rocm7.2", hip="7.2")
ADA = Gpu(index=0, uuid=A, name="RTX 4090", capability=(8, 9), total=24 * GIB, free=20 * GIB)
TURING = Gpu(index=1, uuid=B, name="T4", capability=(7, 5), total=16 * GIB, free=15 * GIB)
NOTHING = Driver(problem="NVML Shared Library Not Found")
DAMAGED_WORDS = "CUDA error: uncorrectable ECC error encountered"
TOO_OLD = "The NVIDIA driver on your system is too old (found version 12040)."


@pytest.fixture(autouse=True)
def _nothing_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this machine's cards nor its environment."""
    monkeypatch.setattr(devices, "plugged_in", lambda: False)
    monkeypatch.setattr(cards, "driver_files", lambda _: [])
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@cache
def _trainer(*words: str) -> TrainerConfig:
    return compose_job(*words).trainer


def _driver(*shown: Gpu, cuda: tuple[int, int] = (13, 0), lost: tuple[str, ...] = ()) -> Driver:
    return Driver(version="580.95.05", cuda=cuda, cards=shown, lost=lost)


def _sees(problem: str | None = None, name: str = "A card", **more: object) -> TorchCard:
    values = {"capability": (8, 9), "architecture": None, **more}
    return TorchCard(name=name, total=24 * GIB, free=20 * GIB, problem=problem, **values)  # type: ignore[arg-type]


def _says(*seen: TorchCard, problem: str | None = None, version: str = "2.13.0") -> TorchSays:
    return TorchSays(version=version, cuda="13.0", hip=None, cards=seen, problem=problem)


def _nobody(cards: Sequence[Gpu]) -> list[TorchSays]:
    raise AssertionError(cards)


def _examined(
    told: Driver,
    said: TorchSays,
    *words: str,
    build: TorchBuild | None = OF_CUDA,
    apart: Callable[[Sequence[Gpu]], list[TorchSays]] = _nobody,
    wanted: tuple[int, ...] | None = None,
) -> Examined:
    found = examine(_trainer(*words), build, told, said, apart, wanted)
    assert not [line for line in (*found.wrong, *found.notes) if "\n" in line]
    assert bool(found.trains_on) != bool(found.wrong)
    return found


def _wrong(*given: object, **more: object) -> str:
    (line,) = _examined(*given, **more).wrong  # type: ignore[arg-type]
    return line


@pytest.mark.slow
def test_cards_that_compute_are_trained_on_each_in_what_it_does_well() -> None:
    found = _examined(_driver(ADA, TURING), _says(_sees(), _sees()))
    assert (found.wrong, found.notes, found.trains_on) == ((), (), ("GPU 0", "GPU 1"))
    assert [(one.name, one.computes, one.precision) for one in found.devices] == [
        ("GPU 0", "8.9", "bf16-mixed"),
        ("GPU 1", "7.5", "16-mixed"),
        ("CPU", None, "32-true"),
    ]
    assert (found.driver.version, found.driver.cuda) == ("580.95.05", "13.0")


def test_a_machine_without_a_card_trains_on_the_cpu() -> None:
    found = _examined(NOTHING, _says(problem="Found no NVIDIA driver on your system"))
    assert (found.wrong, found.notes, found.trains_on) == ((), (), ("CPU",))
    assert "got gpu, but the driver (NVML) shows none" in _wrong(NOTHING, _says(), "trainer.accelerator=gpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("told", "said", "build", "words"),
    [
        (_driver(ADA), _says(), OF_CPU, "the driver shows 1 GPU (RTX 4090), and installed is torch 2.13.0+cpu"),
        (_driver(ADA, cuda=(12, 4)), _says(problem=TOO_OLD), OF_CUDA, "torch says The NVIDIA driver on your system"),
        (_driver(ADA), _says(problem="CUDA unknown error - this may be"), OF_CUDA, RESTART),
        (_driver(ADA), _says(problem="No CUDA GPUs are available"), OF_CUDA, CARD_IS_GONE),
        (_driver(ADA), _says(_sees("CUDA error: uncorrectable ECC error encountered")), OF_CUDA, DAMAGED),
        (_driver(ADA), _says(_sees("all CUDA-capable devices are busy or unavailable")), OF_CUDA, LETS_ALL_IN),
        (_driver(lost=("GPU 0: GPU is lost",)), _says(), OF_CUDA, "the driver says of GPU 0: GPU is lost"),
    ],
    ids=["CPU wheel", "old driver", "mismatch", "lost since", "ECC", "exclusive", "lost"],
)
def test_a_card_that_is_of_no_use_is_wrong_unless_the_cpu_was_asked_for(
    told: Driver, said: TorchSays, build: TorchBuild, words: str
) -> None:
    line = _wrong(told, said, build=build)
    assert words in line
    assert line.endswith(ON_THE_CPU)
    found = _examined(told, said, "trainer.accelerator=cpu", build=build)
    assert (found.wrong, found.trains_on) == ((), ("CPU",))


def test_what_the_driver_shows_is_shown_where_torch_cannot_use_it() -> None:
    found = _examined(_driver(ADA), _says(), build=OF_CPU)
    assert [one.name for one in found.devices] == ["GPU 0", "CPU"]


def test_no_right_to_the_driver_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "driver_files", lambda _: [Path("/dev/nvidia0")])
    line = _wrong(Driver(problem="Insufficient Permissions"), _says(problem="No CUDA GPUs are available"))
    assert "/dev/nvidia0 is there, the driver (NVML) says Insufficient Permissions" in line
    assert "groups video and render" in line


def test_one_bad_card_beside_a_good_one_is_worth_knowing() -> None:
    bad = _sees("CUDA error: uncorrectable ECC error encountered")
    found = _examined(_driver(ADA, TURING, lost=("GPU 2: GPU is lost",)), _says(bad, _sees()))
    assert (found.wrong, found.trains_on) == ((), ("GPU 1",))
    lost, damaged = found.notes
    assert lost.startswith("GPU 2: GPU is lost; the card is gone")
    assert damaged.startswith("GPU 0: CUDA error: uncorrectable ECC error encountered; the card's memory")
    assert found.devices[0].problem is not None


def test_a_card_that_torch_does_not_see_was_not_tried() -> None:
    found = _examined(_driver(ADA, TURING), _says(_sees()))
    assert [one.tried for one in found.devices] == [False, False, True]
    (note,) = found.notes
    assert note.startswith("torch computed nothing on GPU 0, GPU 1")


PARTS = [Gpu(index=0, part=part, uuid=f"MIG-{part}", name="A100 1g.5gb", capability=(8, 0)) for part in range(3)]


def test_every_instance_of_a_card_is_tried_since_a_process_is_shown_one() -> None:
    asked: list[str] = []

    def apart(cards: Sequence[Gpu]) -> list[TorchSays]:
        asked.extend(card.uuid for card in cards)
        return [_says(_sees()), _says(_sees(DAMAGED_WORDS)), _says(problem="No CUDA GPUs are available")]

    found = _examined(
        _driver(*PARTS, TURING), _says(_sees(), _sees()), apart=lambda cards: [*apart(cards), _says(_sees())]
    )
    assert asked == ["MIG-0", "MIG-1", "MIG-2", B]
    assert [one.tried for one in found.devices] == [True] * 5
    assert [one.problem for one in found.devices[:3]] == [None, DAMAGED_WORDS, "No CUDA GPUs are available"]
    assert found.trains_on == ("GPU 0.0", "GPU 1")
    assert len(found.notes) == 2
    whole = _examined(_driver(PARTS[0]), _says(_sees()))
    assert whole.trains_on == ("GPU 0.0",), "a single one is what torch was shown: nobody is asked again"


def test_instances_are_asked_by_their_names_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    under_way, most, shown = 0, 0, []

    class Asked:
        def __init__(self, patience_s: float, visible: str) -> None:
            nonlocal under_way, most
            assert patience_s > 0
            shown.append(visible)
            under_way += 1
            most = max(most, under_way)

        def says(self) -> TorchSays:
            nonlocal under_way
            under_way -= 1
            return _says(_sees())

    monkeypatch.setattr(devices, "AskedTorch", Asked)
    cards = [Gpu(index=0, part=part, uuid=f"MIG-{part}", name="A100") for part in range(11)]
    assert len(devices.one_by_one(cards)) == 11
    assert shown == [card.uuid for card in cards]
    assert most == 8


@pytest.mark.parametrize(
    ("wanted", "trains_on", "wrong"),
    [
        ((1,), ("GPU 1",), None),
        ((0, 1), ("GPU 0", "GPU 1"), None),
        (None, ("GPU 0", "GPU 1"), None),
        ((3,), (), "hydra.launcher.devices: got [3], allowed are 0, 1 (as nvidia-smi counts)"),
    ],
)
def test_the_launchers_devices_are_those_that_count(
    wanted: tuple[int, ...] | None, trains_on: tuple[str, ...], wrong: str | None
) -> None:
    found = _examined(_driver(ADA, TURING), _says(_sees(), _sees()), wanted=wanted)
    assert (found.trains_on, found.wrong) == (trains_on, () if wrong is None else (wrong,))


def test_a_broken_card_counts_where_it_is_the_one_that_is_asked_for() -> None:
    told, said = _driver(ADA, TURING), _says(_sees(DAMAGED_WORDS), _sees())
    assert DAMAGED in _wrong(told, said, wanted=(0,))
    found = _examined(told, said, wanted=(1,))
    assert (found.trains_on, found.notes) == (("GPU 1",), ())
    assert "which are GPUs, but trainer.accelerator=cpu uses none" in _wrong(
        told, said, "trainer.accelerator=cpu", wanted=(0,)
    )
    assert "which are GPUs, but the driver (NVML) shows none" in _wrong(NOTHING, _says(), wanted=(0,))


def test_what_only_torch_sees_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "driver_files", lambda _: [Path("/dev/kfd")])
    radeon = _sees(name="RX 7900 XTX", capability=None, architecture="gfx1100")
    found = _examined(NOTHING, _says(radeon), build=OF_ROCM)
    assert (found.wrong, found.notes, found.trains_on) == ((), (), ("GPU 0",))
    assert (found.devices[0].computes, found.devices[0].tried) == ("gfx1100", True)
    assert found.torch.built_for == "ROCm 7.2"


def test_a_torch_that_cannot_be_imported_trains_nowhere() -> None:
    silent = _says(problem="torch was asked what it sees and did not answer (status 1): libcudart.so.13", version="")
    for words in ((), ("trainer.accelerator=cpu",)):
        assert "libcudart.so.13" in _wrong(NOTHING, silent, *words)
    assert _wrong(NOTHING, silent, build=None).startswith("torch is not installed; install it: pip install")


def test_a_driver_that_hangs_is_said_so() -> None:
    silent = _says(problem="torch was asked what it sees and did not answer within 60 s", version="")
    assert DRIVER_HANGS in _wrong(Driver(problem="the driver did not answer within 30 s"), silent)


def test_a_driver_that_is_not_used_is_worth_knowing(monkeypatch: pytest.MonkeyPatch) -> None:
    (note,) = _examined(Driver(problem="Driver Not Loaded"), _says(), build=OF_CPU).notes
    assert note.startswith(
        "an NVIDIA driver or card is here, and is not used: the driver (NVML) says Driver Not Loaded"
    )
    assert note.endswith("this torch is not built for CUDA")
    monkeypatch.setattr(devices, "plugged_in", lambda: True)
    (note,) = _examined(NOTHING, _says()).notes
    assert "install the driver" in note


@pytest.mark.slow
def test_a_precision_that_the_card_emulates_is_worth_knowing() -> None:
    (note,) = _examined(_driver(TURING), _says(_sees()), "trainer.precision=bf16-mixed").notes
    assert EMULATED in note


def test_who_has_the_rest_of_a_card_is_named() -> None:
    full = Gpu(index=0, uuid=A, name="RTX 4090", total=24 * GIB, free=GIB, tenants=(Tenant(pid=7, taken=23 * GIB),))
    assert "others on it: pid 7" in _examined(_driver(full), _says(_sees())).devices[0].about


def test_a_card_on_the_bus_is_found_by_its_maker_and_kind(tmp_path: Path) -> None:
    for name, vendor, kind in (("a", "0x10de", "0x040300"), ("b", "0x8086", "0x030000"), ("c", "0x10de", None)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        if kind:
            (tmp_path / name / "class").write_text(f"{kind}\n")
    assert not plugged_in(tmp_path), "its sound, another's graphics"
    (tmp_path / "c" / "class").write_text("0x030200\n")
    assert plugged_in(tmp_path)
    assert not plugged_in(tmp_path / "nowhere")
