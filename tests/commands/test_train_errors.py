"""What is wrong is said at once, all of it, and nothing is created."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands.ran import Command
from tests.phrases import COPIES_INTO_NOTHING, WRONG_LINE


def test_all_wrong_keys_and_options_stand_in_one_error_with_the_nearest_right_ones(command: Command) -> None:
    ran = command("lora.rnk=4", "rank=8", "data=emoji-flt", "optimiser.lr=1e-3", "lora.alpha=4")
    assert ran.code == 2
    assert ran.err.splitlines() == [
        f"{WRONG_LINE}:",
        "  - lora.rnk: no such key; did you mean 'lora.rank'?",
        "  - rank: no such key; did you mean 'lora.rank'?",
        "  - data: got 'emoji-flt', allowed is one of emoji-duotone, emoji-flat, folder; did you mean 'emoji-flat'?",
        "  - optimiser.lr: no such key; did you mean 'optimizer.lr'?",
    ]
    assert not ran.sweep_dir.exists()


def test_a_wrong_named_sweep_is_an_error_with_the_choices(command: Command) -> None:
    ran = command("sweep=rank_bach")
    assert ran.code == 2
    assert "sweep: got 'rank_bach', allowed is one of" in ran.err
    assert "did you mean 'rank_batch'?" in ran.err


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("+lora.rank=4", "write it without the +"),
        ("~lora.rank", "every key is needed"),
        ("~data", "every group is needed"),
        ("+lora.color=red", "lora.color: no such key"),
        ("++nothing=1", "nothing: no such key"),
        ("lora.rank", "without '='"),
        ("lora.rank=4,8", "several values without -m"),
        ("data=emoji-flat,emoji-duotone", "several values without -m"),
    ],
)
def test_prefixes_and_slips_are_explained(command: Command, word: str, said: str) -> None:
    ran = command(word)
    assert ran.code == 2
    assert said in ran.err
    assert not ran.sweep_dir.exists()


def test_every_broken_point_is_reported_and_nothing_is_created(command: Command, tmp_path: Path) -> None:
    ran = command("lora.rank=4,-1,16", "data.resolution=64,65", "-m", "tracking=mlflow", f"tracking.root={tmp_path}/ml")
    assert ran.code == 2
    assert "point 2 (lora.rank=-1 data.resolution=64" in ran.err
    assert "lora.rank: got -1" in ran.err
    assert "point 1 (lora.rank=4 data.resolution=65" in ran.err
    assert "data.resolution: got 65" in ran.err
    assert "multiple of 16" in ran.err
    assert not ran.sweep_dir.exists()
    assert not (tmp_path / "ml").exists()


def test_a_fault_of_all_points_is_said_once(command: Command) -> None:
    ran = command("lora.rank=4,8", "-m", "data.resolution=65")
    assert ran.err.count("data.resolution") == 1
    assert "point" not in ran.err


def test_swept_tracking_is_refused(command: Command) -> None:
    ran = command("tracking=none,mlflow", "-m")
    assert ran.code == 2
    assert "one sweep is recorded in one place" in ran.err


def test_a_store_that_cannot_be_used_is_told_before_anything_starts(command: Command) -> None:
    ran = command("tracking.uri=file:./runs")
    assert ran.code == 2
    assert "tracking.uri" in ran.err
    assert not ran.sweep_dir.exists()


def test_an_interval_is_refused_with_what_to_write(command: Command) -> None:
    ran = command("optimizer.lr=interval(0.1,1)", "-m")
    assert ran.code == 2
    assert "range(start,stop,step)" in ran.err


def test_pack_size_zero_is_refused(command: Command) -> None:
    ran = command("hydra.launcher.pack_size=0")
    assert ran.code == 2
    assert "hydra.launcher.pack_size: got 0" in ran.err
    assert not ran.sweep_dir.exists()


def test_wrong_params_of_a_sweep_file_are_named(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "own" / "sweep" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("# @package _global_\nhydra:\n  sweeper:\n    params:\n      lora.rnk: 4,8\n      sedd: 1\n")
    ran = command("sweep=mine", "--config-dir", str(tmp_path / "own"))
    assert ran.code == 2
    assert "hydra.sweeper.params: lora.rnk: no such key; did you mean 'lora.rank'?" in ran.err
    assert "hydra.sweeper.params: sedd: no such key; did you mean 'seed'?" in ran.err
    assert not ran.sweep_dir.exists()


def test_levels_on_the_command_line(command: Command) -> None:
    ran = command("hydra.launcher.ionice=8", "hydra.launcher.engine=ray", "hydra.launcher.nice=20", "-m")
    assert ran.code == 2
    for line in (
        "hydra.launcher.ionice: got 8, allowed is idle, 0 (first) to 7 (last), or null",
        "hydra.launcher.engine: got 'ray', allowed is one of local",
        "hydra.launcher.nice: got 20, allowed is 0 to 19",
    ):
        assert line in ran.err
    assert not ran.sweep_dir.exists()
    assert command("hydra.launcher.ionice=idle", "hydra.launcher.nice=1", "-m").code == 0


@pytest.mark.parametrize("name", ["müller", "it's", "a(1)", "a=b", "[2024] photos", "кошка"])
def test_a_folder_of_any_name_is_taken_as_it_stands_on_the_command_line(
    command: Command, photos: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photos.rename(photos.with_name(name))
    monkeypatch.setenv("HOME", str(folder.parent))
    for path in (str(folder), f"~/{name}"):
        ran = command(
            "data=folder", "data.name=x", f"data.path={path}", f"hydra.sweep.dir=~/{name} sweep", sweep_dir=None
        )
        assert ran.code == 0, ran.err
        sweep = folder.with_name(f"{name} sweep")
        assert (sweep / "results.json").is_file()
        sweep.rename(folder.with_name("done") if path == str(folder) else folder.with_name("done too"))


def test_a_value_that_no_number_can_be_is_named_by_its_key(command: Command) -> None:
    ran = command("lora.rank=ü", "optimizer.name=адам")
    assert ran.code == 2
    assert "lora.rank: got 'ü' (str), allowed is a whole number" in ran.err
    assert "optimizer.name: got 'адам'" in ran.err


def test_flags_of_other_trainers_are_told_as_our_keys(command: Command) -> None:
    ran = command("--network_dim=8", "--learning-rate", "1e-4", "--lora.rank=4", "--path", "x", "--keep_tokens", "2")
    assert ran.code == 2
    assert ran.err.splitlines()[1:] == [
        "  - --network_dim: no such flag; values are set without dashes: lora.rank=...",
        "  - --learning-rate: no such flag; values are set without dashes: optimizer.lr=...",
        "  - --lora.rank: no such flag; values are set without dashes: lora.rank=...",
        "  - --path: no such flag; values are set without dashes: model.path=... or data.path=...",
        "  - --keep_tokens: no such flag; captions are taken as they are, in their order",
    ]


@pytest.mark.parametrize("words", [(), ("lora.rank=4,8", "-m")])
def test_nothing_is_made_where_the_folder_is_not_there(
    command: Command,
    words: tuple[str, ...],
    tmp_path: Path,
) -> None:
    ran = command(*words, f"export.copy_to={tmp_path / 'gone'}")
    assert ran.code == 2
    assert "export.copy_to: got" in ran.err
    assert COPIES_INTO_NOTHING in ran.err
    assert not ran.sweep_dir.exists()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("lora.rank=rnge(4,8)", "Unknown function 'rnge', Available: bool,choice,"),
        ("lora.rank=choice()", "empty choice is not legal"),
        ("lora.target_modules=[to_q,to_v", "a bracket is opened and not closed"),
        (
            "data.caption_prefix=anna, it is",
            """or quote a text with commas: 'data.caption_prefix='"'"'anna, it is'"'"''""",
        ),
    ],
)
def test_what_the_grammar_cannot_read_is_said_in_words(command: Command, word: str, said: str) -> None:
    ran = command(word)
    assert ran.code == 2
    assert said in ran.err
    assert "no viable alternative" not in ran.err
