"""MLflow's own pages of a nine-run sweep, in a real browser: what they show by themselves, and in the sweep's view."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest

from bench.faults.server import Server
from bench.look import browser, elements
from lora_foundry.judge.verdict import verdict_of
from lora_foundry.tracking import SweepWriter
from lora_foundry.tracking.views import address_of_view
from lora_foundry.wire.outcomes import write_outcomes
from lora_foundry.wire.verdict import write_verdict
from tests.debian import install
from tests.judge.outcomes import outcome
from tests.tracking.fake_sweep import COMMAND, Recorded, Sweep, a_job_config
from tests.tracking.places import place

WINDOW = (1500, 2600)
POINTS = [(rank, rate) for rank in (4, 8, 16) for rate in (1e-3, 2e-3, 4e-3)]
BEST = 4

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """What a browser showed: texts in their order, and where pictures came from."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.pictures: list[str] = []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.pictures.append(dict(attrs).get("src") or "")

    def between(self, first: str, last: str) -> list[str]:
        """The texts behind the first one, up to the next that is the last."""
        start = self.texts.index(first) + 1
        return self.texts[start : self.texts.index(last, start)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Iterator[Server]:
    """MLflow's own, over a database of the module's."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "mlflow.db").write_bytes(fresh_database.read_bytes())
    server = Server(folder, folder / "mlflow.db")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def recorded(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Three ranks at three rates: their curves, a picture each, and their end."""
    sweep = Sweep(tmp_path_factory.mktemp("multirun") / "10-00-00-abc", a_job_config(), len(POINTS))
    for n, (rank, rate) in enumerate(POINTS):
        config = replace(sweep.records[n].config, optimizer=replace(a_job_config().optimizer, lr=rate))
        config = replace(config, lora=replace(config.lora, rank=rank))
        given = {"lora.rank": f"{rank}", "optimizer.lr": f"{rate}", "trainer.max_steps": "400"}
        sweep.records[n] = replace(sweep.records[n], config=config, overrides=given, name=f"n{n}")
        for step, value in enumerate((1.0, 0.6, 0.5 + 0.02 * abs(n - BEST))):
            sweep.metrics(n, step, val__loss=value / 3, val__loss_rel=value)
            sweep.metrics(n, step, train__loss=value)
        sweep.picture(n, 2, scale=0)
        sweep.picture(n, 2, scale=1)
        summary = {"samples": 8, "best_val_loss_rel": 0.5 + 0.02 * abs(n - BEST)}
        sweep.write("state", n, state="FINISHED", error=None, summary=summary)
    outcomes = [outcome(n, [0.5 + 0.02 * abs(n - BEST) + 1e-3 * (place % 3) for place in range(8)]) for n in range(9)]
    write_outcomes(sweep.dir, outcomes)
    write_verdict(sweep.dir, verdict_of(outcomes))
    tracking = place(uri=server.uri, root=str(sweep.dir), experiment="nine")
    writer = SweepWriter(sweep.dir, sweep.records, tracking, sweep.id, COMMAND)
    writer.start()
    writer.close(dict.fromkeys(range(9), "FINISHED"))
    assert writer.problem is None
    return Recorded(sweep)


def _page(server: Server, address: str) -> Page:
    if browser() is None:
        install("chromium")
    return Page(elements(str(browser()), f"{server.uri}/{address}", WINDOW))


def test_the_page_that_compares_runs_begins_with_what_was_swept_and_the_loss_over_the_bases(
    server: Server, recorded: Recorded
) -> None:
    ids = json.dumps([run.info.run_id for run in recorded.children.values()])
    experiment = json.dumps([recorded.parent.info.experiment_id])
    page = _page(server, f"#/compare-runs?runs={quote(ids)}&experiments={quote(experiment)}")
    assert page.between("Parameters:", "Metrics:") == ["lora.rank", "optimizer.lr"]
    assert page.between("Metrics:", "Clear All") == ["val/loss_rel"]
    names = page.between("Run Name:", "Start Time:")
    assert sorted(names) == sorted(
        f"rank={rank} lr={rate * 1000:g}e-3{' (best)' if n == BEST else ''}" for n, (rank, rate) in enumerate(POINTS)
    )
    rows = page.texts[page.texts.index("Parameters") :]
    assert [text for text in rows if re.fullmatch(r"(lora|optimizer|trainer)\.\w+", text)][:3] == [
        "lora.rank",
        "optimizer.lr",
        "trainer.max_steps",
    ], "few enough to be seen at once"


def test_the_view_of_a_sweep_shows_its_jobs_the_best_first_with_curves_and_pictures(
    server: Server, recorded: Recorded
) -> None:
    sweep = recorded.parent.data.tags["sweep"]
    page = _page(server, address_of_view(recorded.parent.info.experiment_id, sweep))
    assert "Error loading shared view state: share key is invalid" not in page.texts
    runs = [text for text in page.between("Run Name", "matching runs") if text.startswith("rank=")]
    assert runs[0] == "rank=8 lr=2e-3 (best)"
    assert len(runs) == len(POINTS)
    swept = page.between("Parallel Coordinates", "curves over samples seen")
    assert {"lora.rank", "optimizer.lr", "val/loss_rel_best"} <= set(swept)
    curves = page.between("curves over samples seen", "the same prompts and seeds in every run")
    assert "val/loss_rel" in curves
    assert "train/loss" in curves
    shown = page.texts[page.texts.index("the same prompts and seeds in every run") :]
    assert shown.index("samples/red heart/scale 1") < shown.index("samples/red heart/scale 0")
    owners = {found[1] for source in page.pictures if (found := re.search(r"run_uuid=(\w+)", source))}
    assert owners == {run.info.run_id for run in recorded.children.values()}
    assert "Training runs" not in page.texts, "which is what it is called among the pages for language models"
