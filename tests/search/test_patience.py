"""A storage that is away: what it was to be told waits in order, and nobody else does."""

from __future__ import annotations

from lora_foundry.search.patience import Patience


class _Away:
    """A storage, a clock, and what people were told."""

    def __init__(self) -> None:
        self.now, self.gone = 0.0, False
        self.told: list[int] = []
        self.said: list[str] = []
        self.patience = Patience(self.said.append, lambda: self.now)

    def tell(self, number: int) -> int:
        if self.gone:
            msg = "connection refused\nand more"
            raise OSError(msg)
        self.told.append(number)
        return number


def test_what_is_told_while_it_is_away_is_told_in_order_when_it_is_back() -> None:
    away = _Away()
    away.patience.keep(lambda: away.tell(0))
    away.gone = True
    away.patience.keep(lambda: away.tell(1))
    away.patience.keep(lambda: away.tell(2))
    assert away.patience.tried(lambda: away.tell(3)) is None, "a question cannot wait"
    assert away.told == [0]
    away.gone = False
    assert away.patience.is_away(), "it is not asked at each look"
    away.now = 10.0
    assert not away.patience.is_away()
    assert away.told == [0, 1, 2]
    assert away.patience.tried(lambda: away.tell(4)) == 4
    assert len(away.said) == 2
    assert "(connection refused)" in away.said[0]
    assert "is back" in away.said[1]


def test_it_is_said_once_however_long_it_is_away() -> None:
    away = _Away()
    away.gone = True
    away.patience.keep(lambda: away.tell(0))
    for away.now in (10.0, 20.0, 30.0):
        assert away.patience.is_away()
    assert len(away.said) == 1
