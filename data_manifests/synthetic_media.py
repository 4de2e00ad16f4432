"""Frames, sounds and mp4 files of the synthetic clips."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

LOWEST_HZ, HIGHEST_HZ = 250.0, 4000.0
AUDIO_FRAME_SAMPLES = 1024  # the frame size of AAC


def tone_hz(cue: int, num_classes: int) -> float:
    """Pitch of a class, evenly spaced on a log scale."""
    return LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (cue / (num_classes - 1))


def home(cue: int, num_classes: int) -> tuple[float, float]:
    """Center (x, y) of a class's cell in a near-square grid, as fractions of the frame."""
    columns = math.ceil(math.sqrt(num_classes))
    rows = math.ceil(num_classes / columns)
    return (cue % columns + 0.5) / columns, (cue // columns + 0.5) / rows


def render_waveform(
    rng: np.random.Generator, cue: int | None, num_classes: int, num_samples: int, sample_rate_hz: int
) -> np.ndarray:
    """Waveform `(samples,)`, float32 in [-1, 1]: a tone of the class's pitch in noise, or only noise.

    Loudness, detune, phase, tremolo, overtone and noise level vary between clips, independent of the class.
    """
    seconds = np.arange(num_samples) / sample_rate_hz
    sound = 10 ** rng.uniform(-3.0, -2.3) * rng.standard_normal(num_samples)
    loudness = 10 ** rng.uniform(-1.0, -0.4)
    phase, tremolo_phase = rng.uniform(0, 2 * math.pi, 2)
    detune, tremolo_hz, overtone = rng.uniform(0.98, 1.02), rng.uniform(2, 6), rng.uniform(0, 0.15)
    if cue is not None:
        angle = 2 * math.pi * tone_hz(cue, num_classes) * detune * seconds + phase
        envelope = 1 - 0.3 * (1 + np.sin(2 * math.pi * tremolo_hz * seconds + tremolo_phase)) / 2
        sound += loudness * envelope * (np.sin(angle) + overtone * np.sin(2 * angle)) / (1 + overtone)
    return np.clip(sound, -1, 1).astype(np.float32)


def render_frames(
    rng: np.random.Generator, cue: int | None, num_classes: int, num_frames: int, size: int
) -> np.ndarray:
    """Frames `(frames, size, size, 3)`, uint8 RGB: a bright shape circling in its class's cell, or only background.

    Background, grain, and the shape's kind, color, size, speed and start vary between clips, independent of the class.
    """
    ground = rng.uniform(20, 70, 3)
    slope = rng.uniform(-15, 15, 2)
    kind, color = rng.integers(3), rng.uniform(130, 255, 3)
    angle, speed = rng.uniform(0, 2 * math.pi), rng.uniform(0.5, 1.5) * rng.choice([-1, 1])
    grain = rng.normal(0, 6, (num_frames, size, size, 1))
    columns = math.ceil(math.sqrt(num_classes))
    radius, orbit = rng.uniform(0.28, 0.36) / columns, 0.15 / columns
    y, x = np.mgrid[0:size, 0:size] / size
    frames = np.broadcast_to(ground, (num_frames, size, size, 3)) + grain
    frames = frames + (slope[0] * (x - 0.5) + slope[1] * (y - 0.5))[..., None]
    if cue is not None:
        center_x, center_y = home(cue, num_classes)
        for frame in range(num_frames):
            turn = angle + 2 * math.pi * speed * frame / num_frames
            dx, dy = x - center_x - orbit * math.cos(turn), y - center_y - orbit * math.sin(turn)
            distance = (np.hypot(dx, dy), np.maximum(abs(dx), abs(dy)) * 1.1, (abs(dx) + abs(dy)) * 0.8)[kind]
            frames[frame][distance < radius] = color
    return np.clip(frames, 0, 255).astype(np.uint8)


def write_clip(
    path: Path,
    *,
    frames: np.ndarray | None,
    frame_rate_hz: int,
    waveform: np.ndarray | None,
    sample_rate_hz: int,
) -> None:
    """Write an mp4 file, H.264 and AAC; the same input gives the same bytes.

    Args:
        path: File to write; an existing one is replaced.
        frames: Frames `(frames, height, width, 3)`, uint8 RGB, with even sides; None for a file without video.
        frame_rate_hz: Rate of the frames.
        waveform: Waveform `(samples,)`, float in [-1, 1]; None for a file without sound.
        sample_rate_hz: Rate of the waveform.

    Raises:
        ValueError: Neither frames nor a waveform is given.
    """
    if frames is None and waveform is None:
        raise ValueError("frames or waveform must be given, got neither. Pass at least one.")
    # An open file, not a name: FFmpeg gives colons and percent signs in names a special meaning.
    with path.open("wb") as file, av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        video = audio = None
        if frames is not None:
            video = container.add_stream("libx264", rate=frame_rate_hz, options={"preset": "ultrafast", "crf": "23"})
            video.height, video.width, video.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
            video.codec_context.thread_count = 1
        if waveform is not None:
            audio = container.add_stream("aac", rate=sample_rate_hz, layout="mono")
        if frames is not None and video is not None:
            for picture in frames:
                container.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
            container.mux(video.encode())
        if waveform is not None and audio is not None:
            for start in range(0, len(waveform), AUDIO_FRAME_SAMPLES):
                chunk = waveform[None, start : start + AUDIO_FRAME_SAMPLES].astype(np.float32)
                frame = av.AudioFrame.from_ndarray(chunk, format="fltp", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = sample_rate_hz, start, Fraction(1, sample_rate_hz)
                container.mux(audio.encode(frame))
            container.mux(audio.encode())
