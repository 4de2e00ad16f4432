"""Progress of a long job, reported to any listener."""

from __future__ import annotations


class Progress:
    """A progress listener that shows nothing; subclasses in `amr.console.progress` do.

    A job calls `start`, then `advance` from any thread, then `stop`, even if it fails.
    """

    def start(self, total: float, done: float = 0, unit: str = "clips") -> None:
        """Begin a job.

        Args:
            total: Amount of work.
            done: Amount that an earlier call of the same job finished.
            unit: Plural noun for what is counted.
        """

    def advance(self, amount: float, failures: int = 0) -> None:
        """Count finished work, and the failures in it."""

    def note(self, text: str) -> None:
        """Show a message for the user."""

    def warn(self, text: str) -> None:
        """Show a message that no listener leaves out."""
        self.note(f"warning: {text}")

    def stop(self) -> None:
        """End the job, finished or not."""
