"""``python -m tests.nursery KIND OWNER``: import what processes of a kind import, and fork one for whoever asks."""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import warnings
from collections.abc import Iterator
from typing import Any

from tests import nursery
from tests.root import PROJECT_ROOT

# What they have imported when they end, all rooms of ours included; nothing of it has run before the fork.
_ROOMS = {
    "worker": ("config", "wire", "objectives", "data", "models", "lora", "tasks", "training", "memory", "worker"),
    "launcher": ("config", "wire", "launch", "judge", "search", "tracking", "report", "wiring", "commands"),
}
_LIBRARIES = {
    "worker": (
        *("diffusers.models.unets.unet_2d_condition", "diffusers.models.autoencoders.autoencoder_kl"),
        *("transformers.models.clip.modeling_clip", "transformers.models.clip.tokenization_clip"),
    ),
    "launcher": (
        *(
            "mlflow",
            "mlflow.store.tracking.sqlalchemy_workspace_store",
            "alembic.command",
            "sqlalchemy.dialects.sqlite",
        ),
        *("hydra.main", "hydra._internal.core_plugins", "PIL.ImageDraw", "filelock", "tenacity"),
    ),
}
_MOST_FDS = 32


def main() -> None:
    """Serve; a child comes back from it with what it is to run."""
    kind, owner = sys.argv[1:]
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()
    for name in (*_LIBRARIES[kind], *_modules(kind)):
        importlib.import_module(name)
    from lora_foundry.launch.machines.engines import local

    local.subprocess = nursery.SUBPROCESS  # type: ignore[attr-defined]
    gc.freeze()
    asked = Server(kind, int(owner)).serve()
    if asked is not None:
        gc.enable()
        _run(asked)


def _modules(kind: str) -> Iterator[str]:
    for room in _ROOMS[kind]:
        package = importlib.import_module(f"lora_foundry.{room}")
        found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        yield from (module.name for module in found if not module.name.endswith("__main__"))


class Server:
    """Forks, and tells exit statuses, as long as the process ``owner`` lives."""

    def __init__(self, kind: str, owner: int) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(nursery.address(kind))
        self._listener.listen(64)
        self._owner = os.pidfd_open(owner)
        self._selector = selectors.DefaultSelector()
        for read in (self._listener, self._owner):
            self._selector.register(read, selectors.EVENT_READ)
        self._children: dict[int, tuple[int, socket.socket]] = {}  # by pidfd

    def serve(self) -> dict[str, Any] | None:
        """Null at the end of all; in a child, what it was asked for."""
        while True:
            for key, _ in self._selector.select():
                if key.fd == self._owner:
                    return None
                if key.fileobj is self._listener:
                    asked = self._asked()
                    if asked is not None:
                        return asked
                else:
                    self._ended(key.fd)

    def _asked(self) -> dict[str, Any] | None:
        connection, _ = self._listener.accept()
        message, fds, _, _ = socket.recv_fds(connection, nursery.MESSAGE, _MOST_FDS)
        if not message:  # looked whether anybody is there
            connection.close()
            return None
        pid = os.fork()
        if pid == 0:
            connection.close()
            self._close_all()
            _take(fds)
            asked: dict[str, Any] = json.loads(message)
            return asked
        for descriptor in fds:
            os.close(descriptor)
        watched = os.pidfd_open(pid)
        self._children[watched] = (pid, connection)
        self._selector.register(watched, selectors.EVENT_READ)
        _tell(connection, pid)
        return None

    def _ended(self, watched: int) -> None:
        pid, connection = self._children.pop(watched)
        self._selector.unregister(watched)
        os.close(watched)
        _, status, used = os.wait4(pid, 0)
        print(f"{pid} ended with {status} after {used.ru_utime + used.ru_stime:.2f} s of a processor", flush=True)
        _tell(connection, status)
        connection.close()

    def _close_all(self) -> None:
        self._selector.close()
        self._listener.close()
        os.close(self._owner)
        for watched, (_, connection) in self._children.items():
            os.close(watched)
            connection.close()


def _tell(connection: socket.socket, number: int) -> None:
    try:
        connection.send(json.dumps(number).encode())
    except OSError:
        return  # who asked for it was killed, and it lives on as an orphan does


def _take(fds: list[int]) -> None:
    """The first three are the standard streams; the others are kept open."""
    for number, descriptor in enumerate(fds[:3]):
        os.dup2(descriptor, number)
        os.close(descriptor)


def _run(asked: dict[str, Any]) -> None:
    """What the interpreter would do in a new process, from here on."""
    if asked["new_session"]:
        os.setsid()
    else:
        os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["cwd"])
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout, sys.stderr = _stream(1, "strict"), _stream(2, "backslashreplace")
    path = [word for word in asked["env"].get("PYTHONPATH", "").split(os.pathsep) if word]
    first = [] if asked["safe_path"] else [asked["cwd"]]
    sys.path[:] = [*first, *path, *(word for word in sys.path[1:] if word not in path), str(PROJECT_ROOT)]
    if "torch" in sys.modules:
        _of_its_own_threads(asked["env"])
    if asked["quiet"]:
        warnings.simplefilter("ignore")
    module, *words = asked["words"]
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _stream(descriptor: int, errors: str) -> io.TextIOWrapper:
    raw = open(descriptor, "wb", buffering=0, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(raw, encoding="utf-8", errors=errors, write_through=True)


def _of_its_own_threads(env: dict[str, str]) -> None:
    import torch

    from lora_foundry.config.allowance import cores
    from lora_foundry.config.surroundings import threads_asked

    assert not torch.cuda.is_initialized(), "a fork has no use of CUDA"
    torch.set_num_threads(threads_asked(env.get("OMP_NUM_THREADS")) or cores())


if __name__ == "__main__":
    main()
