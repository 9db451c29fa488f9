"""Whether a job can go on from a file is told from the file's header, before torch is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lora_foundry.lora.init_from import Outlook, Wanted, look_at
from tests.phrases import NO_ADAPTER_FILE
from tests.root import PROJECT_ROOT

LAYERS = {"mid_block.resnets.0.conv1": (5, 3, 3, 3), "mid_block.attentions.0.proj_in": (5, 3)}


def tensors(rank: int = 2) -> dict[str, torch.Tensor]:
    return {
        "lora_unet_mid_block_resnets_0_conv1.lora_down.weight": torch.ones(rank, 3, 3, 3),
        "lora_unet_mid_block_resnets_0_conv1.lora_up.weight": torch.ones(5, rank, 1, 1),
        "lora_unet_mid_block_attentions_0_proj_in.lora_down.weight": torch.ones(rank, 3),
        "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": torch.ones(5, rank),
    }


def look(folder: Path, content: dict[str, torch.Tensor], **wanted: Any) -> Outlook:
    path = folder / "x.safetensors"
    save_file(content, path)
    return look_at(path, Wanted(**{"rank": 2, "rank_is_given": False, "layers": LAYERS, "targets": LAYERS, **wanted}))


def test_a_file_that_fits_has_no_problems(tmp_path: Path) -> None:
    outlook = look(tmp_path, tensors())
    assert (outlook.problems, outlook.warnings) == ((), ())
    assert outlook.contents is not None
    assert outlook.contents.ranks() == [2]


def test_another_rank_is_taken_only_where_somebody_said_the_rank(tmp_path: Path) -> None:
    (problem,) = look(tmp_path, tensors(rank=4)).problems
    assert "rank 4, lora.rank=2 is only the default; give lora.rank=4" in problem
    assert "or lora.rank=2 to have it brought to that rank" in problem
    assert look(tmp_path, tensors(rank=4), rank_is_given=True).problems == ()


def test_other_targets_are_refused_with_the_preset_that_fits(tmp_path: Path) -> None:
    few = ["mid_block.attentions.0.proj_in"]
    presets = {"attention": few, "all": list(LAYERS)}
    (problem,) = look(tmp_path, tensors(), targets=few, presets=presets).problems
    assert "adapts 2 layers, lora.target_modules names 1" in problem
    assert problem.endswith("give lora.target_modules=all")


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"lora_unet_mid_block_attentions_0_proj_in.dora_scale": torch.ones(5, 1)}, "it is DoRA (1 magnitudes"),
        (
            {
                "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 3),
                "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_up.weight": torch.ones(5, 2),
            },
            "it adapts a text encoder as well (1 layers",
        ),
    ],
)
def test_parts_that_nothing_trains_are_refused_by_their_kind(
    more: dict[str, torch.Tensor], says: str, tmp_path: Path
) -> None:
    (problem,) = look(tmp_path, tensors() | more).problems
    assert says in problem


def test_an_embedding_is_warned_of(tmp_path: Path) -> None:
    outlook = look(tmp_path, tensors() | {"bundle_emb.tok.string_to_param.*": torch.ones(2, 3)})
    assert outlook.problems == ()
    assert "its embedding (bundle_emb.tok.string_to_param.*) is not used" in outlook.warnings[0]


def test_every_shape_that_differs_from_the_bases_is_named(tmp_path: Path) -> None:
    wider = {name: (6, *shape[1:]) for name, shape in LAYERS.items()}
    problems = look(tmp_path, tensors(), layers=wider).problems
    assert len(problems) == 2
    assert "mid_block.resnets.0.conv1: the base's weight is (6, 3, 3, 3), the file's update (5, 3, 3, 3)" in problems[1]


def test_a_linear_layers_update_fits_a_convolution_of_one_pixel(tmp_path: Path) -> None:
    shapes = LAYERS | {"mid_block.attentions.0.proj_in": (5, 3, 1, 1)}
    assert look(tmp_path, tensors(), layers=shapes).problems == ()


def test_a_missing_file_is_one_problem(tmp_path: Path) -> None:
    (problem,) = look_at(tmp_path / "none.safetensors", Wanted(rank=2, rank_is_given=False)).problems
    assert NO_ADAPTER_FILE in problem


@pytest.mark.slow
def test_looking_imports_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(tensors(), path)
    program = f"""
import sys
from pathlib import Path
from lora_foundry.lora.init_from import Wanted, look_at
assert look_at(Path({str(path)!r}), Wanted(rank=2, rank_is_given=True)).problems == ()
print(sorted({{"torch", "safetensors", "numpy", "peft"}} & sys.modules.keys()))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
