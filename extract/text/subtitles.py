"""Lines of subtitles, SubRip (.srt) and WebVTT (.vtt), without times and markup."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_TIME = r"(?:(\d+):)?(\d{1,2}):(\d{1,2})(?:[.,](\d{1,3}))?"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(?:\s.*)?")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<\d[\d:.,]*>|\{\\[^{}]*\}")  # <i>, <v Ann>, <00:01.000>, {\an8}


@dataclass
class _Cue:
    start: float
    end: float
    lines: list[str] = field(default_factory=list)

    def is_in(self, start: float, end: float) -> bool:
        """Whether it is on the screen at some time of an interval."""
        return self.start < end and (self.end > start or self.start == start)


def lines_between(
    text: str, start_seconds: float | None = None, end_seconds: float | None = None, *, is_vtt: bool
) -> list[str]:
    r"""Lines that are on the screen at some time of an interval, without blank ones.

    Args:
        text: Content of the file.
        start_seconds: Start of the interval; by default that of the file.
        end_seconds: End of the interval; by default that of the file.
        is_vtt: Whether a blank line ends a subtitle, as in WebVTT, where notes and styles may follow. In SubRip, it
            lasts until the next one.

    Raises:
        ValueError: The text has no times.

    >>> lines_between("1\n00:00:01,000 --> 00:00:02,000\n<i>Go</i> on\n", is_vtt=False)
    ['Go on']
    """
    cues = list(_cues(text, is_vtt))
    if text.strip() and not cues and not _is_empty_vtt(text, is_vtt):
        raise ValueError("subtitles must have lines such as 00:00:01,000 --> 00:00:02,500, got none. Name it .txt.")
    start = 0.0 if start_seconds is None else start_seconds
    end = math.inf if end_seconds is None else end_seconds
    lines = (line for cue in cues if cue.is_in(start, end) for line in cue.lines)
    return [plain for line in lines if (plain := _plain(line))]


def _is_empty_vtt(text: str, is_vtt: bool) -> bool:
    return is_vtt and text.startswith("WEBVTT")


def _cues(text: str, is_vtt: bool) -> Iterator[_Cue]:
    cue: _Cue | None = None
    for line in text.splitlines():
        if times := _TIMES.fullmatch(line):
            if cue is not None:
                yield _without_number(cue)
            cue = _Cue(_seconds(times.groups()[:4]), _seconds(times.groups()[4:]))
        elif cue is not None and is_vtt and not line.strip():
            yield cue
            cue = None
        elif cue is not None:
            cue.lines.append(line)
    if cue is not None:
        yield cue


def _without_number(cue: _Cue) -> _Cue:
    """Without the number of the next subtitle, which stands before its times."""
    if cue.lines and cue.lines[-1].strip().isdecimal():
        cue.lines.pop()
    return cue


def _seconds(groups: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = groups
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + float(f"0.{fraction or 0}")


def _plain(line: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", line)).replace("\u200b", "").split())
