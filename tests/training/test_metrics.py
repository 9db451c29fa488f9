"""What a member is charged with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.world import Spec, train


@pytest.mark.slow
def test_a_member_has_its_share_of_the_devices_time_by_rows_and_alone_all_of_it(tmp_path: Path) -> None:
    """All take the same steps, so that what is shared is the time of each."""
    one, three = Spec("one", ("data.batch_size=1",)), Spec("three", ("data.batch_size=3",))
    found = train([one, three], tmp_path / "both").parts
    for name, share in (("one", 0.25), ("three", 0.75)):
        count = found[name].count
        assert count.device_seconds == pytest.approx(share * count.seconds)
    alone = train([one], tmp_path / "alone").parts["one"].count
    assert alone.device_seconds == pytest.approx(alone.seconds)
