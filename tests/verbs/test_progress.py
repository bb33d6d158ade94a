"""Progress in a log: lines that say how far the work is, where bars would stay unseen."""

import io

import pytest
from rich.console import Console

from drivetl.verbs._progress import Bars, Lines, in_words, shown_on


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def written() -> list[str]:
    return []


def test_a_log_gets_a_line_every_half_minute_and_one_at_the_end(clock: _Clock, written: list[str]) -> None:
    with Lines(written.append, clock) as lines:
        for second in range(101):
            clock.now = float(second)
            lines.update("training", second, 100)
    assert written == [
        "training: 30 of 100, about 1 min left",
        "training: 60 of 100, less than a minute left",
        "training: 90 of 100, less than a minute left",
        "training: 100 of 100, in 100 s",
    ]


def test_what_a_resumed_job_did_before_does_not_count_as_speed(clock: _Clock, written: list[str]) -> None:
    with Lines(written.append, clock) as lines:
        lines.update("training", 900, 1000)
        clock.now = 60.0
        lines.update("training", 910, 1000)
    assert written[0] == "training: 910 of 1000, about 9 min left"


def test_work_that_stops_half_way_says_how_far_it_came(clock: _Clock, written: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt), Lines(written.append, clock) as lines:
        lines.update("reading", 0, 10)
        lines.update("reading", 4, 10)
        raise KeyboardInterrupt
    assert written == ["reading: 4 of 10"]


def test_a_label_that_begins_anew_is_told_anew(clock: _Clock, written: list[str]) -> None:
    with Lines(written.append, clock) as lines:
        for _ in range(2):
            lines.update("fold", 0, 2)
            lines.update("fold", 2, 2)
            lines.update("fold", 2, 2)
    assert written == ["fold: 2 of 2, in 0 s"] * 2


def test_where_the_end_is_unknown_the_count_alone_is_told(clock: _Clock, written: list[str]) -> None:
    with Lines(written.append, clock) as lines:
        lines.update("frames", 0, None)
        clock.now = 31.0
        lines.update("frames", 70, None)
    assert written == ["frames: 70", "frames: 70"]


def test_a_terminal_gets_bars_and_a_file_lines() -> None:
    file = io.StringIO()
    with shown_on(Console(file=file)) as shown:
        assert isinstance(shown, Lines)
        shown.update("pictures [bold]", 0, 3)
        shown.update("pictures [bold]", 3, 3)
    assert file.getvalue().startswith("pictures [bold]: 3 of 3")
    assert isinstance(shown_on(Console(file=file, force_terminal=True)), Bars)


@pytest.mark.parametrize(
    ("seconds", "words"), [(44.0, "less than a minute left"), (46.0, "about 1 min left"), (600.0, "about 10 min left")]
)
def test_time_left_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
