"""Text that is written in parts is the text that OmegaConf writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from lora_foundry.config.files import write_all
from lora_foundry.launch.records.yaml_text import YamlTexts
from tests.root import PROJECT_ROOT


@pytest.mark.slow
def test_composed_jobs_are_written_as_omegaconf_writes_them() -> None:
    texts = YamlTexts()
    with initialize_config_dir(str(PROJECT_ROOT / "conf"), version_base="1.3"):
        for words in (["seed=1"], ["seed=2", "model=sd15"], ["lora.target_modules=[a,b]", "data.caption_prefix='1e3'"]):
            whole = compose("train", overrides=["hydra.job.num=3", *words], return_hydra_config=True)
            assert texts.of(whole) == OmegaConf.to_yaml(whole)


LONG = "a path that is longer than a line of YAML, " * 5


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"a": {}, "b": [], "c": None},
        {"null": {"yes": {"no": 1}}, "true": {"x": 2}, "on": 3},
        {"model": {"seed": 1, "1": 2, "text": "1", "flag": True, "word": "true", "rate": 1.0, "rates": "1.0"}},
        {"outer": {"inner": {"deeper": {"deepest": [1, [2, {"x": "y: z"}], LONG], "text": LONG}}, "text": LONG}},
        {"listed": [{"x": 1}, {"x": 2}], "lines": "one\ntwo\n", "umlaut": "Größe", "refers": "${lora.rank}"},
        {"a key: with a colon": {"- and a dash": {"#": 1}}, "x" * 140: {"y" * 140: 1}},
    ],
    ids=lambda values: "-".join(key[:6] for key in values) or "empty",
)
def test_odd_values_are_written_as_omegaconf_writes_them(values: dict[str, Any]) -> None:
    texts = YamlTexts()
    assert texts.of(values) == OmegaConf.to_yaml(values)
    assert texts.of(OmegaConf.create(values)) == OmegaConf.to_yaml(values), "from what was kept"


def test_values_that_look_alike_are_told_apart() -> None:
    texts = YamlTexts()
    for value in (1, "1", 1.0, True, "True", None, "null", [1], ["1"]):
        config = {"lora": {"rank": value}}
        assert texts.of(config) == OmegaConf.to_yaml(config)


def test_files_of_a_folder_are_written_whole(tmp_path: Path) -> None:
    write_all(tmp_path / "new", {"a.yaml": "one\n", "b.bin": b"\0"})
    assert (tmp_path / "new" / "a.yaml").read_text() == "one\n"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.yaml", "b.bin"], (
        "nothing temporary is left"
    )
