"""How a long job says how far it is, without knowing who listens."""

from __future__ import annotations


class Progress:
    """A listener that shows nothing; `amr.console.progress` has the ones that do.

    A job calls `start`, then `advance` from any thread, then `stop`, also when it breaks off.
    """

    def start(self, total: float, done: float = 0, unit: str = "clips") -> None:
        """Begin a job.

        Args:
            total: Amount of work, in units.
            done: Part of it that an earlier call of the same job finished.
            unit: Plural noun for what is counted.
        """

    def advance(self, amount: float, failures: int = 0) -> None:
        """Count work that is done, and failures in it."""

    def note(self, text: str) -> None:
        """Say something that people should know."""

    def stop(self) -> None:
        """End the job, finished or not."""
