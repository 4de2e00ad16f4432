"""Files whose timestamps begin again half-way, such as transport streams that were joined by appending."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from av.packet import Packet

BACK_SECONDS = 0.5  # a smaller step back is an error of rounding
NEXT_SECONDS = 1.0  # packets of one stream are closer together, unless some are missing
FAR_SECONDS = 10.0  # a larger step of all streams is no gap in one recording; FFmpeg's limit, too
NUM_RECENT = 4  # longer than most damage
# Formats whose recordings begin at any timestamp: after a far step, another recording begins.
BEGIN_ANYWHERE = frozenset({"mpegts", "mpeg"})


@dataclass
class _Section:
    """A part of a file in which timestamps grow; times in seconds, as stored."""

    begin: float
    end: float
    is_later: bool  # whether it begins after the end of the section before it
    is_damaged: bool = False  # whether it is a few packets with wrong timestamps
    streams: set[int] = field(default_factory=set)


class Sections:
    """The sections of a file, found from its packets in the order of the file.

    A section begins where timestamps of a stream step back, or far beyond those of all streams. Each other stream
    enters it with its own step to similar times. If a stream soon continues as before the step, the packets in
    between are damaged.
    """

    def __init__(self) -> None:
        self._sections: list[_Section] = []
        self._recent: dict[int, deque[tuple[int, float]]] = {}  # stream -> section and time of its last packets
        self._ticks: dict[int, float] = {}  # stream -> seconds per unit of timestamps

    def add(self, packet: Packet) -> int:
        """Section of the next packet."""
        stream, pts, dts = packet.stream_index, packet.pts, packet.dts
        if stream not in self._recent:
            self._recent[stream] = deque(maxlen=NUM_RECENT)
            self._ticks[stream] = float(packet.time_base or 0)
        recent, tick = self._recent[stream], self._ticks[stream]
        if dts is None:
            return recent[-1][0] if recent else 0
        seconds = dts * tick
        at = self._find(recent, seconds)
        recent.append((at, seconds))
        section = self._sections[at]
        section.streams.add(stream)
        shown = seconds if pts is None else pts * tick
        section.begin = min(section.begin, shown)
        section.end = max(section.end, shown + (packet.duration or 0) * tick)
        return at

    def shifts(self, format_name: str) -> list[float | None]:
        """Seconds to add to the timestamps of each section, so that each follows the last; None if damaged."""
        shifts: list[float | None] = []
        shift, end = 0.0, None
        for section in self._sections:
            if section.is_damaged:
                shifts.append(None)
                continue
            if end is not None and (not section.is_later or format_name in BEGIN_ANYWHERE):
                shift = end - section.begin
            end = section.end + shift
            shifts.append(shift)
        return shifts

    def _find(self, recent: deque[tuple[int, float]], seconds: float) -> int:
        if not recent:
            return self._first(seconds)
        for at, before in reversed(recent):
            if -BACK_SECONDS <= seconds - before <= NEXT_SECONDS:
                if len(self._sections) > 1:
                    for left in {section for section, _ in recent if section > at}:
                        self._sections[left].is_damaged = len(self._sections[left].streams) == 1
                return at
        at, before = recent[-1]
        if before <= seconds <= self._sections[at].end + FAR_SECONDS:  # packets are missing
            return at
        for later in range(at + 1, len(self._sections)):
            if self._holds(later, seconds):
                return later
        return self._begin(seconds, is_later=seconds > self._sections[at].end)

    def _first(self, seconds: float) -> int:
        """Section of a stream's first packet."""
        if not self._sections:
            return self._begin(seconds, is_later=False)
        return next((at for at in reversed(range(len(self._sections))) if self._holds(at, seconds)), 0)

    def _holds(self, at: int, seconds: float) -> bool:
        section = self._sections[at]
        around = section.begin - FAR_SECONDS <= seconds <= section.end + FAR_SECONDS
        return around and not section.is_damaged

    def _begin(self, seconds: float, *, is_later: bool) -> int:
        self._sections.append(_Section(seconds, seconds, is_later))
        return len(self._sections) - 1


def shift(packet: Packet, sections: Sections, shifts: Sequence[float | None]) -> None:
    """Move the timestamps of the next packet to where its section is; remove them if they are damaged."""
    at = min(sections.add(packet), len(shifts) - 1)
    seconds = shifts[at]
    if seconds is None:
        packet.pts = packet.dts = None
    elif seconds and packet.time_base is not None:
        ticks = round(seconds / float(packet.time_base))
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
