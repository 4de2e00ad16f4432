from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amr.extract.text.subtitles import lines_between

SRT = """1
00:00:00,500 --> 00:00:01,000
- <i>Who's</i> there?

2
00:00:01,000 --> 00:00:03,250 X1:10 X2:20
{\\an8}<font color="#ff0000">Tom &amp; I</font>

12

3
01:00:04,000 --> 01:00:05,000
three
3
"""
VTT = """WEBVTT - a title

STYLE
::cue { color: red }

NOTE 00:00 is no time

intro
00:00.500 --> 00:01.000 align:start position:0%
<v Ann>Who's <00:00.700><c.loud>there?</c></v>

1
00:01.000 --> 00:03.250
Tom &amp; I
a < b

NOTE
the end
"""


def test_times_markup_and_numbers_are_removed():
    assert lines_between(SRT, is_vtt=False) == ["- Who's there?", "Tom & I", "12", "three", "3"]
    assert lines_between(VTT, is_vtt=True) == ["Who's there?", "Tom & I", "a < b"]
    assert lines_between(SRT.replace("\n", "\r\n"), is_vtt=False) == lines_between(SRT, is_vtt=False)


@pytest.mark.parametrize(
    ("start", "end", "lines"),
    [
        (None, 0.75, ["Who's there?"]),
        (0.9, 1.0, ["Who's there?"]),  # the second line appears at the end, not before it
        (1.0, None, ["Tom & I", "a < b"]),  # the first has vanished at the start
        (0.75, 2, ["Who's there?", "Tom & I", "a < b"]),
        (0, 0.5, []),
        (3.25, 9, []),
    ],
)
def test_lines_on_the_screen_in_the_interval(start, end, lines):
    assert lines_between(VTT, start, end, is_vtt=True) == lines


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 20)), min_size=1, max_size=8),
    st.integers(0, 100),
    st.integers(1, 50),
)
def test_a_line_is_kept_where_it_overlaps(cues, start, length):
    text = "".join(
        f"{i}\n00:{at // 60:02}:{at % 60:02},000 --> 00:{(at + num) // 60:02}:{(at + num) % 60:02},000\nline {i}\n\n"
        for i, (at, num) in enumerate(cues)
    )
    expected = [f"line {i}" for i, (at, num) in enumerate(cues) if max(at, start) < min(at + num, start + length)]
    assert lines_between(text, start, start + length, is_vtt=False) == expected


def test_subtitles_without_blank_lines_and_none_at_all():
    tight = "1\n00:00:01,000 --> 00:00:02,000\none\n2\n00:00:02,000 --> 00:00:03,000\ntwo"
    assert lines_between(tight, is_vtt=False) == ["one", "two"]
    assert lines_between("WEBVTT\n\n", is_vtt=True) == []
    assert lines_between(" \n", is_vtt=False) == []
    with pytest.raises(ValueError, match=r"subtitles must have lines such as .* got none. Name it .txt"):
        lines_between("once upon a time", is_vtt=False)
