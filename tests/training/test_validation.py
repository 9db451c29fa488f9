"""The validation loss is the same number whatever the run is like."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from src.data.cache import TensorCache
from src.training.pack import Pack
from src.training.validation import FixedRows, Score, Validator
from tests.training.world import Spec, make_data, make_denoiser, make_member

OPTIONS = ("validation.timesteps=8", "validation.max_images=3")


def _pack(tmp_path: Path, *specs: Spec) -> Pack:
    members = [make_member(spec, tmp_path) for spec in specs]
    for member in members:  # as in a sweep: jobs of one data set share its tensors and are scored together
        member.validation = members[0].validation
    return Pack(make_denoiser(), members)


def test_an_untrained_adapter_scores_exactly_like_the_base(tmp_path: Path) -> None:
    pack = _pack(tmp_path, Spec("a", OPTIONS), Spec("b", (*OPTIONS, "lora.rank=2", "data.batch_size=1", "seed=9")))
    scores = Validator(pack).score(pack.members)
    assert scores["a"].relative == scores["b"].relative == pytest.approx(1.0, abs=1e-12)
    assert scores["a"].loss == pytest.approx(scores["b"].loss, rel=1e-12)


def test_rows_per_forward_and_company_change_nothing(tmp_path: Path) -> None:
    def score(rows: int, *others: str) -> float:
        options = (*OPTIONS, f"validation.batch_rows={rows}")
        pack = _pack(tmp_path, Spec("a", options), *(Spec(o, options) for o in others))
        draw = torch.Generator().manual_seed(0)
        for value in pack.bank.unpack(pack.bank.weights[0], "a").values():
            value.copy_(torch.randn(value.shape, generator=draw, dtype=torch.float64) * 0.1)
        return Validator(pack).score(pack.members)["a"].loss

    alone = score(64)
    assert score(5) == pytest.approx(alone, rel=1e-12)
    assert score(64, "b", "c") == pytest.approx(alone, rel=1e-12)


def test_the_rows_do_not_depend_on_the_order_of_files() -> None:
    config = Spec("a", OPTIONS).config().validation
    data = make_data(5, variants=1)
    order = [3, 0, 4, 1, 2]
    shuffled = type(data)(
        latents=data.latents[order],
        captions=data.captions,
        caption_index=data.caption_index[order],
        records=tuple(data.records[i] for i in order),
    )
    one, other = (FixedRows(d, config, n_train_timesteps=1000, dtype=torch.float64) for d in (data, shuffled))
    assert torch.equal(one.latents, other.latents)
    assert torch.equal(one.noise, other.noise)
    assert torch.equal(one.conditioning["encoder_hidden_states"], other.conditioning["encoder_hidden_states"])
    assert len(one) == 3 * 8
    assert one.timesteps[:8].tolist() == [62, 187, 312, 437, 562, 687, 812, 937]


def test_bands_average_to_the_whole(tmp_path: Path) -> None:
    pack = _pack(tmp_path, Spec("a", OPTIONS))
    score = Validator(pack).score(pack.members)["a"]
    assert len(score.by_band) == 4
    assert sum(score.by_band.values()) / 4 == pytest.approx(score.loss)
    assert set(score.metrics()) == {"val/loss", "val/loss_rel", *(f"val/loss_{band}" for band in score.by_band)}


def test_the_bases_own_losses_are_computed_once_for_all_packs(tmp_path: Path) -> None:
    def score(*, brighter: float = 1.0, base_hash: str = "b" * 64, extra: tuple[str, ...] = ()) -> tuple[int, Score]:
        """Forwards of the base that a new pack needed, and its score."""
        member = make_member(Spec("a", (*OPTIONS, *extra)), tmp_path)
        member.cache = TensorCache(tmp_path / "cache")
        member.validation.latents.mul_(brighter)
        member.provenance = replace(member.provenance, base_hash=base_hash)
        denoiser, forwards = make_denoiser(), []
        denoiser.module.register_forward_pre_hook(lambda *_: forwards.append(1))
        found = Validator(Pack(denoiser, [member])).score([member])["a"]
        return len(forwards), found

    computed, first = score()
    kept, again = score()
    assert computed > 0
    assert kept == 0
    assert again == first
    assert score(brighter=1.1)[0] > 0
    assert score(base_hash="c" * 64)[0] > 0
    assert score(extra=("validation.timesteps=4",))[0] > 0
