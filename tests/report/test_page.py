"""``report.html``, read back as a browser reads it: elements, and the data that its script draws."""

from __future__ import annotations

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lora_foundry.commands import report
from lora_foundry.config.swept import swept_keys
from lora_foundry.launch.records.journal import Journal
from lora_foundry.report.page import grid
from lora_foundry.report.page.writing import LIMIT_BYTES, thin, write_page
from lora_foundry.report.told import Memory, ReportJob, ReportSweep
from lora_foundry.wire.events import MetricsEvent, TagsEvent
from lora_foundry.wiring.page import write_report
from lora_foundry.wiring.told import told_of
from tests.report.sweeps import Folder

HOSTILE = "</script><script>alert('x')</script> \"quoted\" & <b>"
POINTS = [{"lora.rank": rank, "optimizer.lr": lr} for rank in ("4", "8") for lr in ("0.001", "0.004")]


class Page(HTMLParser):
    """Elements, cells of the table by row, and what scripts hold."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self._inside: str | None = None
        self.data: dict[str, Any] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr" and "data-job" in dict(attrs):
            self.rows.append([])
        if tag == "td" and self.rows:
            self.rows[-1].append("")
        self._inside = "data" if dict(attrs).get("id") == "data" else tag

    def handle_data(self, data: str) -> None:
        if self._inside == "data":
            self.data = json.loads(data)
        elif self._inside == "td" and self.rows:
            self.rows[-1][-1] += data
        self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002  # whichever: what comes is in none that matters
        self._inside = None

    def pictures(self) -> list[tuple[int, int, int]]:
        """The colour of each picture of the grid."""
        found = []
        for tag, given in self.elements:
            source = given.get("src")
            if tag == "img" and source:
                with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as opened:
                    found.append(opened.convert("RGB").getpixel((opened.width // 2, opened.height // 2)))
        return found  # type: ignore[return-value]  # of RGB they are three


def page_of(folder: Folder) -> Page:
    assert report.main([str(folder.path)]) == 0
    return Page((folder.path / "report.html").read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Two by two jobs: one finished best, one finished, one failed, one pruned."""
    made = Folder(tmp_path / "sweep", POINTS)
    made.ended(0, [0.60, 0.70, 0.65, 0.61])
    made.ended(1, [0.50, 0.60, 0.55, 0.52])
    made.ended(2, state="FAILED", error="loss is not finite at step 3")
    made.ended(3, state="PRUNED")
    for job, values in enumerate([(1.0, 0.8, 0.49), (1.0, 0.7, 0.54), (1.0,), (1.0, 0.9)]):
        made.curve(job, *values)
    return made


def test_rows_have_what_was_swept_and_what_came_of_it_the_best_first(folder: Folder) -> None:
    page = page_of(folder)
    assert [row[0] for row in page.rows] == ["n1 *", "n0", "n3", "n2"]
    assert page.rows[0][1:8] == ["4", "0.004", "0.5425", "0.2712", "9 / 9", "0.73", "12"]
    assert page.rows[2][3] == "(0.9000)", "the last that was measured of one that was pruned"
    assert [row[-1] for row in page.rows] == ["finished", "finished", "pruned", "failed"]
    states = [given["class"] for tag, given in page.elements if tag == "tr" and "data-job" in given]
    assert states == ["finished best", "finished", "pruned", "failed"]


def test_the_sentence_is_the_judges_and_the_error_stands_in_plain_sight(folder: Folder) -> None:
    page = page_of(folder)
    verdict = told_of(folder.path).verdict
    assert verdict is not None
    assert verdict.sentence in page.texts
    assert "1/adapter/n1.safetensors" in page.texts
    assert "loss is not finite at step 3" in page.texts


def test_commands_go_on_with_the_winner_train_it_again_and_retry_what_failed(folder: Folder) -> None:
    lines = [text for text in page_of(folder).texts if "python -m" in text or "lora-foundry " in text]
    assert any(f"resume={folder.path}/1 trainer.max_steps=18" in line for line in lines)
    assert any(line.endswith("train lora.rank=4 optimizer.lr=0.004") for line in lines)
    assert any(line.endswith(f"retry {folder.path}") for line in lines)


def test_curves_hold_each_metric_of_each_job_over_samples(folder: Folder) -> None:
    folder.curve(1, 2.0, 1.5, name="val/loss_t000_250")
    curves = page_of(folder).data["curves"]
    assert list(curves) == ["val/loss_rel", "val/loss_t000_250"]
    assert curves["val/loss_rel"]["1"] == [[0, 1.0], [8, 0.7], [16, 0.54]]
    assert curves["val/loss_t000_250"] == {"1": [[0, 2.0], [8, 1.5]]}


def test_bands_of_timesteps_are_told_over_what_they_were_before_the_first_step(folder: Folder) -> None:
    for band, values in (("t250_500", (0.5, 0.4)), ("t000_250", (2.0, 1.0))):
        folder.curve(1, *values, name=f"val/loss_{band}")
    folder.spool(MetricsEvent(t=1.0, job=0, step=4, samples=8, values={"val/loss_t000_250": 1.0}))
    page = page_of(folder)
    assert page.data["bands"] == [
        {"name": "0 to 250", "jobs": {"1": 0.5}},
        {"name": "250 to 500", "jobs": {"1": 0.8}},
    ]
    assert "bands" in {given.get("data-chart") for _, given in page.elements}


def test_memory_is_told_by_pack_beside_what_was_predicted(folder: Folder) -> None:
    for job, values in ((0, {"memory.measured_gib": 0.8, "memory.predicted_gib": 1.0}), (2, {"precision": "32-true"})):
        folder.spool(TagsEvent(t=1.0, job=job, values=values), TagsEvent(t=2.0, job=1, values=values))
    assert told_of(folder.path).memory == (Memory(names=("n0", "n1"), predicted_gib=1.0, measured_gib=0.8),)
    texts = page_of(folder).texts
    assert texts[texts.index("n0, n1") :][:4] == ["n0, n1", "1.00", "0.80", "+25 %"]


def test_the_page_of_a_sweep_that_is_at_its_end_does_not_wait_for_more(folder: Folder) -> None:
    with Journal(folder.path):
        assert told_of(folder.path).running
        assert write_report(folder.path) == folder.path / "report.html"
        page = Page((folder.path / "report.html").read_text(encoding="utf-8"))
    assert page.data["every"] is None
    assert [row[-1] for row in page.rows] == ["finished", "finished", "pruned", "failed"]
    assert "running" not in page.texts


def test_where_the_old_sweep_was_recorded_is_no_part_of_the_command_that_trains_again(tmp_path: Path) -> None:
    points = [{"lora.rank": rank, "tracking.uri": "http://h:5000", "tracking": "mlflow"} for rank in "48"]
    made = Folder(tmp_path / "sweep", points)
    made.ended(0, [0.5, 0.6])
    made.ended(1, [0.7, 0.8])
    lines = [one.line for one in told_of(made.path).commands]
    assert any(line.endswith("train lora.rank=4") for line in lines)


def test_what_was_swept_is_what_differs_between_jobs() -> None:
    assert swept_keys([{"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "x"}]) == ("b", "c")
    assert swept_keys([{"a": "1"}]) == ()


@pytest.mark.parametrize(
    ("values", "numbers", "log"),
    [
        (("adamw", "1"), False, False),
        (("1e-4", "3e-4", "1e-3"), True, True),
        (("2", "4", "8", "16"), True, True),
        (("0.01", "0.1", "0.2", "0.3"), True, False),
        (("0", "0.1", "10"), True, False),
        (("4", "8"), True, False),
    ],
)
def test_an_axis_is_of_numbers_where_all_values_are_and_logarithmic_where_factors_spread_them(
    values: tuple[str, ...], numbers: bool, log: bool, tmp_path: Path
) -> None:
    points = [{"swept": value, "lora.rank": "4"} for value in values]
    (key,) = page_of(Folder(tmp_path / "sweep", points)).data["keys"]
    assert (key["key"], key["numbers"], key["log"]) == ("swept", numbers, log)


def test_pictures_stand_by_prompt_the_base_first_and_a_missing_one_is_said(folder: Folder) -> None:
    for prompt in ("heart", "star"):
        folder.picture(0, prompt, scale=0.0)
        folder.picture(1, prompt)
    folder.picture(0, "heart")
    page = page_of(folder)
    near = [tuple(round(part / 10) for part in pixel) for pixel in page.pictures()]
    assert near == [(0, 9, 0), (0, 9, 20), (4, 9, 20), (0, 9, 0), (4, 9, 20)]
    assert page.texts.count("no picture") == 1
    alts = [given["alt"] for tag, given in page.elements if tag == "img" and given.get("src")]
    assert alts == ["base: heart", "n0: heart", "n1: heart", "base: star", "n1: star"]


def test_a_job_is_shown_at_the_highest_scale_that_it_drew(folder: Folder) -> None:
    folder.picture(1, "heart", scale=1.0)
    folder.picture(1, "heart", scale=0.5)
    ((_, _, blue),) = page_of(folder).pictures()
    assert round(blue / 10) == 20


def test_the_texts_of_people_stay_texts(tmp_path: Path) -> None:
    made = Folder(tmp_path / "sweep", [{"data.name": HOSTILE}, {"data.name": "b"}], command=f"train {HOSTILE}")
    made.ended(0, state="FAILED", error=HOSTILE)
    made.ended(1, [0.5, 0.6])
    made.curve(1, 1.0, name=HOSTILE)
    made.picture(1, HOSTILE)
    page = page_of(made)
    assert [tag for tag, _ in page.elements].count("script") == 2
    assert "b" not in {tag for tag, _ in page.elements}
    assert page.data["jobs"][0]["values"]["data.name"] == HOSTILE
    assert HOSTILE in page.data["curves"]
    assert [given["alt"] for tag, given in page.elements if tag == "img" and given.get("src")] == [f"n1: {HOSTILE}"]
    text = (made.path / "report.html").read_text()
    assert text.count("</script") == 2


def test_nothing_of_a_page_lies_elsewhere(folder: Folder) -> None:
    folder.picture(0, "heart")
    page = page_of(folder)
    for tag, given in page.elements:
        for name in ("src", "href"):
            assert (given.get(name) or "data:").startswith("data:"), (tag, given)
    own = Path(grid.__file__).parent
    for name in ("page.css", "page.js", "page.html"):
        text = (own / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttpRequest|innerHTML|eval\(", text), name
    policy = next(given["content"] for tag, given in page.elements if "http-equiv" in given and tag == "meta")
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:")


def test_what_the_script_looks_for_is_on_the_page(folder: Folder) -> None:
    folder.picture(0, "heart")
    page = page_of(folder)
    own = Path(grid.__file__).parent
    wanted = set(re.findall(r"""find\("#([\w-]+)""", (own / "page.js").read_text()))
    there = {given.get("id") for _, given in page.elements}
    assert len(wanted) > 10
    assert wanted <= there
    charts = {given["data-chart"] for _, given in page.elements if "data-chart" in given}
    assert charts == {"against", "curves", "parallel"}


def test_pictures_are_made_smaller_until_they_fit(tmp_path: Path) -> None:
    made = Folder(tmp_path / "sweep", [{}, {}])
    paths = [made.picture(0, f"{place}", side=256) for place in range(4)]
    for path in paths:
        Image.effect_noise((256, 256), 90).convert("RGB").save(path)
    whole, side = grid.embedded(paths, LIMIT_BYTES)
    assert (len(whole), side) == (4, 256)
    most = sum(map(len, whole.values())) // 5
    less, side = grid.embedded(paths, most)
    assert len(less) == 4
    assert 32 <= side < 256
    assert most // 8 < sum(map(len, less.values())) <= most


def test_a_picture_that_is_gone_or_broken_is_left_out(tmp_path: Path) -> None:
    made = Folder(tmp_path / "sweep", [{}])
    good, broken = made.picture(0, "a"), made.picture(0, "b")
    broken.write_bytes(broken.read_bytes()[:60])
    assert set(grid.embedded([good, broken, tmp_path / "gone.png"], LIMIT_BYTES)[0]) == {good}


def test_a_report_of_many_long_jobs_stays_small(tmp_path: Path) -> None:
    points = [(8 * place, 1 / (1 + place)) for place in range(1000)]
    curves = {f"val/{name}": dict.fromkeys(range(100), points) for name in range(12)}
    jobs = tuple(ReportJob(job=n, name=f"n{n}", state="FINISHED", values={"a": str(n)}) for n in range(100))
    sweep = ReportSweep(
        id="x", command="", cwd=None, created=0, running=False, keys=("a",), jobs=jobs, verdict=None, settings=(),
        curves=curves, commands=(),
    )  # fmt: skip
    assert write_page(tmp_path, sweep).stat().st_size < 1_500_000
    assert list(thin(points, 3)) == [points[0], points[round(999 / 2)], points[999]]
    assert thin(points, 1000) is points


def test_nothing_finished_is_said(tmp_path: Path) -> None:
    made = Folder(tmp_path / "sweep", [{"seed": "0"}, {"seed": "1"}])
    page = page_of(made)
    assert any(text.startswith("Nothing can be compared") for text in page.texts)
    assert [row[-1] for row in page.rows] == ["lost", "lost"]
    assert page.data["every"] is None


def test_settings_with_several_seeds_have_their_mean_and_spread(tmp_path: Path) -> None:
    made = Folder(tmp_path / "sweep", [{"lora.rank": rank, "seed": seed} for rank in "48" for seed in "01"])
    for job, loss in enumerate((0.5, 0.7, 0.8, 0.9)):
        made.ended(job, [loss, loss])
    data = page_of(made).data
    assert [(one["name"], one["jobs"]) for one in data["settings"]] == [("rank=4", [0, 1]), ("rank=8", [2, 3])]
    assert data["settings"][0]["mean"] == pytest.approx(0.6)
    assert data["settings"][0]["spread"] == pytest.approx(0.02**0.5)
    assert [(key["key"], key["shown"]) for key in data["keys"]] == [("lora.rank", True), ("seed", False)]


def test_what_is_no_sweep_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(tmp_path)]) == 2
    assert "holds no sweep" in capsys.readouterr().err
