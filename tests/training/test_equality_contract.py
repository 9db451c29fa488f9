"""The equality contract at its first depth: in 64-bit, a packed member's trajectory is its solo trajectory.

1e-9 tells a wrong computation from rounding: rounding alone was seen to move a trajectory of 20 steps by 4e-13.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_foundry.data.order import SampleOrder
from tests.training.world import Spec, Trained, distance, make_denoiser, train, undisturbed

LIMIT = 1e-9

PLAIN = Spec("plain")
_WORDS: dict[str, tuple[str, ...]] = {
    "rank": ("lora.rank=7",),
    "alpha": ("lora.alpha=2x",),
    "rslora": ("lora.use_rslora=true", "lora.rank=6"),
    "dropout": ("lora.dropout=0.3",),
    "learning rate": ("optimizer.lr=0.0007",),
    "optimizer settings": ("optimizer.betas=[0.8,0.95]", "optimizer.weight_decay=0.3"),
    "batch size": ("data.batch_size=3",),
    "accumulation": ("trainer.accumulate=3",),
    "target modules": ("lora.target_modules=[to_q,to_v]",),
    "convolutions": ("lora.target_modules=all", "lora.rank=3"),
    "seed": ("seed=77",),
    "schedule": ("scheduler=linear", "scheduler.min_lr_ratio=0.1"),
    "length": ("trainer.max_steps=5",),
    "longer": ("trainer.max_steps=13",),
    "epochs": ("trainer.max_steps=null", "trainer.epochs=2.5"),
    "samples": (),
    "objective": ("objective=min-snr", "objective.noise_offset=0.1"),
    "initialisation": ("lora.init=gaussian",),
    "clipping": ("trainer.max_grad_norm=0.001",),
    "caption dropout": ("data.caption_dropout=0.9",),
    "adafactor": ("optimizer=adafactor",),
    "prodigy": ("optimizer=prodigy",),
    "tens of steps": ("trainer.max_steps=20", "lora.dropout=0.1", "trainer.accumulate=2"),
}
DIFFERENCES = {
    name: Spec(f"other-{name.replace(' ', '-')}", words, n_images=5 if name == "samples" else 6)
    for name, words in _WORDS.items()
}
_MATES = 6
GROUPS = [list(DIFFERENCES.values())[first : first + _MATES] for first in range(0, len(DIFFERENCES), _MATES)]
"""Who trains together, beside one that is as plain as can be."""


@pytest.fixture(scope="module")
def plain() -> Trained:
    """PLAIN, trained alone."""
    return undisturbed(PLAIN)


@pytest.mark.slow
@pytest.mark.parametrize("name", DIFFERENCES)
def test_a_packed_member_equals_its_solo_run(name: str, plain: Trained) -> None:
    other = DIFFERENCES[name]
    mates = next(group for group in GROUPS if other in group)
    packed = undisturbed(PLAIN, *mates)
    for spec, solo in ((PLAIN, plain), (other, undisturbed(other))):
        assert solo.parts[spec.name].count.step == packed.parts[spec.name].count.step > 0
        assert distance(packed.weights(spec.name), solo.weights(spec.name)) < LIMIT
    assert packed.states(0)[-1] == packed.states(1 + mates.index(other))[-1] == "FINISHED"


@pytest.mark.slow
def test_members_differ_where_they_should(tmp_path: Path) -> None:
    """The comparison is worth something only if members that differ end apart."""
    packed = train([PLAIN, Spec("seeded", ("seed=1",)), Spec("dropped", ("lora.dropout=0.3",))], tmp_path)
    assert distance(packed.weights("seeded"), packed.weights("plain")) > 1e-2
    assert distance(packed.weights("dropped"), packed.weights("plain")) > 1e-3


@pytest.mark.slow
def test_gradient_checkpointing_changes_nothing(tmp_path: Path) -> None:
    """Dropout is drawn again in the recomputation and must come out the same."""
    specs = [Spec("a", ("lora.dropout=0.3",)), Spec("b", ("seed=3", "data.batch_size=1"))]
    kept = train(specs, tmp_path / "kept")
    again = [Spec(s.name, (*s.overrides, "trainer.gradient_checkpointing=true")) for s in specs]
    recomputed = train(again, tmp_path / "recomputed")
    for spec in specs:
        assert distance(recomputed.weights(spec.name), kept.weights(spec.name)) < LIMIT
    solo = undisturbed(again[0])
    assert distance(recomputed.weights("a"), solo.weights("a")) < LIMIT


@pytest.mark.slow
def test_a_halved_micro_batch_with_doubled_accumulation_is_the_same(tmp_path: Path) -> None:
    whole = train([Spec("a", ("data.batch_size=4", "lora.dropout=0.2"))], tmp_path / "whole")
    halved = train([Spec("a", ("data.batch_size=2", "trainer.accumulate=2", "lora.dropout=0.2"))], tmp_path / "halved")
    assert distance(halved.weights("a"), whole.weights("a")) < LIMIT


@pytest.mark.slow
def test_a_mate_that_turns_nan_half_way_fails_alone_and_is_not_noticed(plain: Trained, tmp_path: Path) -> None:
    half_way = SampleOrder(seed=0, n_images=6).draw(3).image
    sick = Spec("sick", ("data.batch_size=1", "data.flip=false"), n_images=6, poisoned=half_way)
    packed = train([PLAIN, sick], tmp_path / "packed")
    assert distance(packed.weights("plain"), plain.weights("plain")) < LIMIT
    assert packed.states(1)[-1] == "FAILED"
    assert packed.states(0)[-1] == "FINISHED"
    part = packed.parts["sick"]
    assert part.count.step == 3
    assert all(bool(w.isfinite().all()) for w in part.weights.values())
    assert any("loss is nan" in str(getattr(e, "error", None)) for e in packed.events)


@pytest.mark.slow
def test_a_mate_that_leaves_takes_no_half_accumulated_gradient_along(tmp_path: Path) -> None:
    """A place is freed when a member leaves; who is in the middle of an accumulation must not notice."""
    half_way = SampleOrder(seed=0, n_images=6).draw(4).image
    sick = Spec("sick", ("data.batch_size=1", "data.flip=false"), poisoned=half_way)
    patient = Spec("patient", ("trainer.accumulate=3", "lora.rank=3"))
    packed = train([sick, patient], tmp_path / "packed")
    assert packed.states(0)[-1] == "FAILED"
    solo = undisturbed(patient)
    assert distance(packed.weights("patient"), solo.weights("patient")) < LIMIT


@pytest.mark.slow
def test_a_failed_member_can_be_resumed_at_the_samples_that_failed(tmp_path: Path) -> None:
    half_way = SampleOrder(seed=0, n_images=6).draw(3).image
    sick = Spec("sick", ("data.batch_size=1", "data.flip=false"), poisoned=half_way)
    first = train([sick], tmp_path)
    assert first.parts["sick"].count.ordinal == 3
    again = train([sick], tmp_path, resume=frozenset({"sick"}))
    assert again.states(0)[-1] == "FAILED"  # the same bad sample, not the one behind it


@pytest.mark.slow
def test_a_name_may_be_any_that_a_job_may_have(tmp_path: Path) -> None:
    """PEFT allows no dot and no ``lora_`` in an adapter's name; names tell what is swept, such as lr0.001."""
    specs = [Spec("flat-rank8-lr0.001", ("name=flat-rank8-lr0.001",)), Spec("lora_x", ("seed=1",))]
    trained = train(specs, tmp_path)
    assert [trained.states(job)[-1] for job in (0, 1)] == ["FINISHED", "FINISHED"]


@pytest.mark.slow
def test_the_order_of_jobs_does_not_matter(tmp_path: Path) -> None:
    specs = [PLAIN, DIFFERENCES["rank"], Spec("third", ("lora.target_modules=attention", "data.batch_size=1"))]
    forward = train(specs, tmp_path / "forward")
    backward = train(specs[::-1], tmp_path / "backward")
    for spec in specs:
        assert distance(forward.weights(spec.name), backward.weights(spec.name)) < LIMIT


@pytest.mark.slow
def test_a_base_that_served_a_pack_serves_the_next_as_if_new(plain: Trained, tmp_path: Path) -> None:
    denoiser = make_denoiser()
    train([PLAIN, DIFFERENCES["convolutions"]], tmp_path / "first", denoiser=denoiser)
    second = train([PLAIN], tmp_path / "second", denoiser=denoiser)
    assert distance(second.weights("plain"), plain.weights("plain")) < LIMIT


def _digest(folder: Path) -> str:
    """Of all bits of two adapters."""
    trained = train([Spec("a", ("lora.dropout=0.2",)), Spec("b", ("lora.target_modules=all", "seed=2"))], folder)
    digest = hashlib.sha256()
    for name in ("a", "b"):
        for key, value in sorted(trained.weights(name).items()):
            digest.update(key.encode() + value.numpy().tobytes())
    return digest.hexdigest()


_HASHED = """
import sys
from pathlib import Path
from tests.training.test_equality_contract import _digest
print("digest", hash("LoRA"), _digest(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_pythonhashseed_changes_no_bit(tmp_path: Path) -> None:
    """Here it is as it was set for the tests, or drawn."""
    done = subprocess.run(
        [sys.executable, "-c", _HASHED, str(tmp_path / "there")],
        env={"PYTHONHASHSEED": "4242", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": str(torch.get_num_threads())},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    hashed, digest = done.stdout.split("digest ")[1].split()
    assert int(hashed) != hash("LoRA"), "the seeds differ"
    assert digest == _digest(tmp_path / "here")


@st.composite
def _packs(draw: st.DrawFn) -> list[Spec]:
    specs = []
    for index in range(draw(st.integers(2, 4))):
        overrides = [
            f"lora.rank={draw(st.integers(1, 9))}",
            f"lora.alpha={draw(st.sampled_from(['null', '0.5x', '3']))}",
            f"lora.dropout={draw(st.sampled_from([0.0, 0.0, 0.25]))}",
            f"lora.target_modules={draw(st.sampled_from(['attention', 'all-linear', 'all', '[to_k]']))}",
            f"data.batch_size={draw(st.integers(1, 3))}",
            f"trainer.accumulate={draw(st.integers(1, 2))}",
            f"trainer.max_steps={draw(st.integers(3, 4))}",
            f"optimizer.lr={draw(st.sampled_from([1e-3, 3e-4]))}",
            f"seed={draw(st.integers(0, 5))}",
        ]
        specs.append(Spec(f"m{index}", tuple(overrides), n_images=draw(st.integers(1, 7))))
    return specs


@pytest.mark.slow
@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(specs=_packs(), chosen=st.integers(0, 3))
def test_any_member_of_any_pack_equals_its_solo_run(
    specs: list[Spec], chosen: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    spec = specs[chosen % len(specs)]
    packed = train(specs, tmp_path_factory.mktemp("packed"))
    solo = undisturbed(spec)
    assert distance(packed.weights(spec.name), solo.weights(spec.name)) < LIMIT
