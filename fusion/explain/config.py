"""Options of `amr explain`. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from amr.common.files import check_ours, check_unlinked, check_writable
from amr.common.options import DEVICES, coerce_fields
from amr.common.registry import unknown

MARK = "amr explain"  # in the metadata of each picture
PICTURES = (".png", ".svg", ".pdf")
MAX_NAME = 100  # characters of the clip's name in the picture's file name


@dataclass(frozen=True)
class ExplainConfig:
    """One clip to explain.

    Args:
        run: Folder or name of a run; of a sweep or table, the best run by val is explained.
        clip: Media file, folder of images, or id of a clip in the run's cache.
        out: Picture to write; None: explain_<clip>.png in the run's folder.
        device: Device: auto, cpu or cuda.

    Raises:
        ValueError: The clip is missing, the device unknown, or the picture's format not supported.
    """

    run: Path
    clip: str
    out: Path | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check what can be checked without the run."""
        coerce_fields(self)
        if not self.clip:
            raise ValueError("CLIP must be a media file or the id of a cached clip, got ''. Name one.")
        if self.device not in DEVICES:
            raise unknown("--device", self.device, DEVICES)
        if self.out is not None and self.out.suffix.lower() not in PICTURES:
            raise ValueError(
                f"--out must end in {', '.join(PICTURES)}, got {str(self.out)!r}. Pass {self.out.stem or 'clip'}.png."
            )

    def picture(self, run: Path) -> Path:
        """Path of the picture.

        Args:
            run: Folder of the run that is explained.

        >>> ExplainConfig("runs/a", "clips/a b.mp4").picture(Path("runs/a")).as_posix()
        'runs/a/explain_a-b.mp4.png'
        """
        if self.out is not None:
            return self.out
        name = "".join(c if c.isalnum() or c in "-_.+" else "-" for c in Path(self.clip).name)
        return run / f"explain_{name[:MAX_NAME]}.png"

    def check_writable(self, run: Path) -> None:
        """Raise ValueError if the picture cannot be written.

        Args:
            run: Folder of the run that is explained.
        """
        what = "RUN" if self.out is None else "--out"
        if self.out is None:
            check_unlinked(run, what)
        else:
            check_ours(self.out, [MARK.encode()], "--out")
        check_writable(self.picture(run).parent, what, "Pass --out with a picture in ~, as ~/clip.png.")
