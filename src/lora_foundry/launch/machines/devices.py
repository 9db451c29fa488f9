"""The GPUs of this machine and what is free on them, as the driver's management library (NVML) reports it.

Run by ``python -m`` it tells the same as a line on standard output, for those who cannot wait for a driver that hangs.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from lora_foundry.wire.lines import Kinds, Line

_PATIENCE_S = 30.0  # the first question may start the driver, with eight cards
_SHOWN = 3  # other processes on a card, the largest first


@dataclass(frozen=True, kw_only=True, slots=True)
class Tenant:
    """A process that has memory of a card.

    Attributes:
        pid: Its number (in a container: on the host).
        taken: Bytes; null where the driver does not say.
    """

    pid: int
    taken: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Gpu:
    """A card, or an instance of one that is cut up (MIG); ``free`` leaves out what any process has taken.

    Attributes:
        index: The card's number, in the order of the PCI bus, as nvidia-smi counts; -1 where it is not known.
        part: The instance's number on its card; null for a whole card.
        uuid: What CUDA_VISIBLE_DEVICES can name it by wherever it is plugged in.
        name: The model.
        capability: Compute capability of one of NVIDIA's, such as (8, 9); null where the driver does not say.
        architecture: That of one of AMD's, such as ``gfx1100``, as torch says it.
        total: Bytes; null where the driver does not say.
        free: Bytes; null where the driver does not say.
        tenants: Who has taken the rest, as far as the driver tells.
        lets_in: How many processes at a time may compute on it (its compute mode).
    """

    index: int
    uuid: str
    name: str
    part: int | None = None
    capability: tuple[int, ...] | None = None
    architecture: str | None = None
    total: int | None = None
    free: int | None = None
    tenants: tuple[Tenant, ...] = ()
    lets_in: Literal["all", "one", "none"] = "all"

    @property
    def label(self) -> str:
        """``0``, ``0.1`` for an instance, and its own name for one that the driver does not list."""
        if self.index < 0:
            return self.uuid.replace("/", "_")
        return str(self.index) if self.part is None else f"{self.index}.{self.part}"

    def about(self) -> str:
        """For people: the model, what is free, and who has the rest."""
        if self.free is None or self.total is None:
            return f"{self.name}, memory not told by the driver"
        said = f"{self.name}, {self.free / 2**30:.1f} of {self.total / 2**30:.1f} GiB free"
        ordered = sorted(self.tenants, key=lambda tenant: -(tenant.taken or 0))
        who = [f"pid {one.pid}" + ("" if one.taken is None else f" {one.taken >> 20} MiB") for one in ordered]
        more = [f"{len(who) - _SHOWN} more"] if len(who) > _SHOWN else []
        return f"{said}; others on it: {', '.join([*who[:_SHOWN], *more])}" if who else said


@dataclass(frozen=True, kw_only=True, slots=True)
class Driver(Line):
    """What NVIDIA's driver tells.

    Attributes:
        version: Its own, such as ``580.95.05``; null where it does not say.
        cuda: The newest CUDA that it runs, such as (13, 0); null where it does not say.
        cards: Every card that answers and that somebody may compute on, in the order of the PCI bus.
        lost: A line for each other: fallen off the bus, not this user's, cut up into nothing.
        problem: Why nothing could be asked, in its words; null where something was.
        broken: Whether that is no answer of a driver but a fault in asking, which says nothing of what cards there are.
    """

    tag: ClassVar[str] = "driver"
    version: str | None = None
    cuda: tuple[int, ...] | None = None
    cards: tuple[Gpu, ...] = ()
    lost: tuple[str, ...] = ()
    problem: str | None = None
    broken: bool = False


DRIVERS: Kinds[Driver] = Kinds("kind", (Driver,))


def main() -> None:
    """Ask and tell."""
    sys.stdout.buffer.write(DRIVERS.written(ask_driver()))


def gpus() -> list[Gpu]:
    """Every card that answers, in the order of the PCI bus; none where there is no driver."""
    return list(ask_driver().cards)


def ask_driver() -> Driver:
    """What the driver tells now; one that hangs is told as its own problem."""
    answer: Future[Driver] = Future()  # of no executor: those wait for their threads when a program ends
    threading.Thread(target=_answer, args=(answer,), name="driver", daemon=True).start()
    try:
        return answer.result(_PATIENCE_S)
    except FutureTimeoutError:
        return Driver(problem=f"the driver did not answer within {_PATIENCE_S:g} s")


def _answer(future: Future[Driver]) -> None:
    try:
        future.set_result(_ask())
    except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
        future.set_exception(error)


def _ask() -> Driver:
    import pynvml  # --help needs none of it

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:  # no driver, or one that does not answer
        return Driver(problem=str(error))
    try:
        return _asked(pynvml)
    except pynvml.NVMLError as error:
        return Driver(problem=str(error))
    except Exception as error:  # noqa: BLE001  # of a library of that name that is another's, or half of one
        told = f"pynvml ({getattr(pynvml, '__file__', None)}) failed: {type(error).__name__}: {error}"
        return Driver(problem=told, broken=True)
    finally:
        pynvml.nvmlShutdown()


def _asked(nvml: Any) -> Driver:  # noqa: ANN401  # ctypes
    handles, lost = [], []
    for number in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
            handles.append((_bus(nvml.nvmlDeviceGetPciInfo(handle)), handle))
        except nvml.NVMLError as error:
            lost.append(f"GPU {number}: {error}")
    found = []
    for index, (_, handle) in enumerate(sorted(handles, key=lambda pair: pair[0])):
        try:
            cards = list(_cards(nvml, index, handle))
            why = None if cards else "it is cut up (MIG) and has no instance"
        except nvml.NVMLError as error:  # lost since its handle was given
            cards, why = [], str(error)
        if cards and cards[0].lets_in == "none":
            why, cards = "its compute mode is Prohibited", []
        found += cards
        lost += [] if why is None else [f"GPU {index}: {why}"]
    version, cuda = _versions(nvml)
    return Driver(version=version, cuda=cuda, cards=tuple(found), lost=tuple(lost))


def _versions(nvml: Any) -> tuple[str | None, tuple[int, int] | None]:  # noqa: ANN401  # ctypes
    """The driver's own and that of the newest CUDA which it runs: ``libcuda``'s, a newer one beside it counts."""
    version, cuda = _maybe(nvml, "nvmlSystemGetDriverVersion"), _maybe(nvml, "nvmlSystemGetCudaDriverVersion_v2")
    if version is None or cuda is None:
        return None, None
    return _text(version), (int(cuda) // 1000, int(cuda) % 1000 // 10)


def _maybe(nvml: Any, question: str, *about: Any) -> Any:  # noqa: ANN401  # ctypes
    """What is answered to a question that a card is used without; null for no answer, or for no such question."""
    ask = getattr(nvml, question, None)
    if ask is None:
        return None
    try:
        return ask(*about)
    except nvml.NVMLError:
        return None


def _cards(nvml: Any, index: int, handle: Any) -> Iterator[Gpu]:  # noqa: ANN401  # ctypes
    """The card, or its instances where it is cut up: then CUDA does not use it as a whole."""
    instances = _instances(nvml, handle)
    whole: list[tuple[int | None, Any]] = [(None, handle)]
    capability, lets_in = _capability(nvml, handle), _lets_in(nvml, handle)  # instances have the card's
    for part, one in whole if instances is None else instances:
        try:
            uuid, name = nvml.nvmlDeviceGetUUID(one), nvml.nvmlDeviceGetName(one)
        except nvml.NVMLError:
            if part is None:
                raise
            continue
        total, free = _memory(nvml, one)
        tenants = tuple(_tenants(nvml, one))
        yield Gpu(
            index=index,
            part=part,
            uuid=_text(uuid),
            name=_text(name),
            capability=capability,
            total=total,
            free=free,
            tenants=tenants,
            lets_in=lets_in,
        )


def _instances(nvml: Any, handle: Any) -> list[tuple[int | None, Any]] | None:  # noqa: ANN401  # ctypes
    """The parts of a card that is cut up; null for a whole one."""
    mode = _maybe(nvml, "nvmlDeviceGetMigMode", handle)
    if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
        return None  # as a card is that cannot be cut up
    most = _maybe(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle)
    if most is None:
        return None
    found: list[tuple[int | None, Any]] = []
    for number in range(most):
        try:
            found.append((number, nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)))
        except nvml.NVMLError:
            continue  # numbers may have holes
    return found


def _lets_in(nvml: Any, handle: Any) -> Literal["all", "one", "none"]:  # noqa: ANN401  # ctypes
    mode = _maybe(nvml, "nvmlDeviceGetComputeMode", handle)
    if mode is None:
        return "all"
    if mode == nvml.NVML_COMPUTEMODE_PROHIBITED:
        return "none"
    return "one" if mode == nvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS else "all"


def _capability(nvml: Any, handle: Any) -> tuple[int, int] | None:  # noqa: ANN401  # ctypes
    told = _maybe(nvml, "nvmlDeviceGetCudaComputeCapability", handle)
    return None if told is None else (int(told[0]), int(told[1]))


def _memory(nvml: Any, handle: Any) -> tuple[int | None, int | None]:  # noqa: ANN401  # ctypes
    told = _maybe(nvml, "nvmlDeviceGetMemoryInfo", handle)
    return (None, None) if told is None else (int(told.total), int(told.free))  # none of one that shares the host's


def _tenants(nvml: Any, handle: Any) -> Iterator[Tenant]:  # noqa: ANN401  # ctypes
    seen = set()
    for question in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
        for process in _maybe(nvml, question, handle) or ():
            if process.pid not in seen:
                seen.add(process.pid)
                yield Tenant(pid=int(process.pid), taken=process.usedGpuMemory)


def _bus(info: Any) -> tuple[int, int, int]:  # noqa: ANN401  # ctypes
    return int(info.domain), int(info.bus), int(info.device)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


if __name__ == "__main__":
    main()
