"""The winner as a version of a model in MLflow's registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from lora_foundry.config.schema import RegistryConfig, TrackingConfig
from lora_foundry.judge.verdict import verdict_of
from lora_foundry.tracking import SweepWriter
from lora_foundry.wire.outcomes import write_outcomes
from lora_foundry.wire.verdict import write_verdict
from tests.judge.outcomes import outcome
from tests.tracking.fake_sweep import COMMAND, Recorded, Sweep


@pytest.mark.slow
def test_each_winner_is_a_version_once_and_the_newest_is_the_best(
    make_sweep: Callable[..., Sweep], tracking: TrackingConfig
) -> None:
    registered = replace(tracking, registry=RegistryConfig(name="my style"))
    sweep = make_sweep(jobs=2)
    for job in range(2):
        (sweep.dir / str(job) / "adapter").mkdir()
        (sweep.dir / str(job) / "adapter" / f"n{job}.safetensors").write_bytes(b"weights")
        sweep.write("artifact", job, path=f"{job}/adapter/n{job}.safetensors", folder="adapter")
    for best in (1, 1, 0):
        outcomes = [outcome(n, [0.3, 0.31, 0.29] if n == best else [0.6, 0.61, 0.6]) for n in range(2)]
        write_outcomes(sweep.dir, outcomes)
        found = verdict_of(outcomes)
        write_verdict(sweep.dir, found)
        writer = SweepWriter(sweep.dir, sweep.records, registered, sweep.id, COMMAND)
        writer.start()
        writer.close(dict.fromkeys(range(2), "FINISHED"))
        assert writer.problem is None
        assert found is not None
        recorded = Recorded(sweep)
        version = recorded.client.get_model_version_by_alias("my style", "best")
        assert version.run_id == recorded.children[best].info.run_id
        assert version.description == found.sentence
        assert str(version.source).endswith(f"{version.run_id}/artifacts/adapter")
    every = recorded.client.search_model_versions("name = 'my style'")
    assert sorted(one.run_id for one in every) == sorted(run.info.run_id for run in recorded.children.values())
    assert {one.tags["file"] for one in every} == {"n0.safetensors", "n1.safetensors"}
