"""Durations, windows and sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dujiang.config.units import format_duration, parse_duration, parse_size, parse_window


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("500ms", 500_000_000),
        ("60s", 60_000_000_000),
        ("1.5h", 5_400_000_000_000),
        ("10m", 600_000_000_000),
        ("10min", 600_000_000_000),
        ("2d", 172_800_000_000_000),
        (" 3 s ", 3_000_000_000),
        (0, 0),
        (0.0, 0),
        ("0s", 0),
    ],
)
def test_a_duration_is_nanoseconds(text, duration_ns):
    assert parse_duration(text) == duration_ns


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (60, "60 has no unit; write 60s or 60ms"),
        (1.5, "1.5 has no unit"),
        ("60", "'60' is not a duration; write for example 500ms, 60s"),
        ("-5s", "is not a duration"),
        ("5 weeks", "is not a duration"),
        ("", "is not a duration"),
        (True, "a duration is text with a unit"),
        (None, "a duration is text with a unit"),
        (["60s"], "a duration is text with a unit"),
    ],
)
def test_what_is_no_duration_is_told_with_a_remedy(written, told):
    with pytest.raises(ValueError) as caught:
        parse_duration(written)
    assert told in str(caught.value)


def test_a_window_is_a_duration_or_a_day():
    assert parse_window("day") == "day"
    assert parse_window("60s") == 60_000_000_000
    for written in ("0s", 0):
        with pytest.raises(ValueError, match="must be longer than nothing; write for example 60s, 1h or day"):
            parse_window(written)
    with pytest.raises(ValueError, match="not a duration"):
        parse_window("month")


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (4096, 4096),
        ("4096", 4096),
        ("64KiB", 65_536),
        ("25mib", 26_214_400),
        ("1.5 GiB", 1_610_612_736),
        ("2KB", 2_000),
    ],
)
def test_a_size_is_bytes(written, size):
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["much", "5TiB", "-1", "", True, 1.5, None])
def test_what_is_no_size_is_told_with_a_remedy(written):
    with pytest.raises(ValueError, match=r"(write for example 64KiB or 25MiB|such as 64KiB, 25MiB)"):
        parse_size(written)


@given(st.integers(min_value=0, max_value=10**6), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_a_duration_is_written_as_it_is_read(number, unit):
    duration_ns = parse_duration(f"{number}{unit}")
    assert parse_duration(format_duration(duration_ns)) == duration_ns


@given(st.integers(min_value=1, max_value=10**9))
def test_whole_microseconds_are_written_as_they_are_read(microseconds):
    assert parse_duration(format_duration(microseconds * 1000)) == microseconds * 1000
