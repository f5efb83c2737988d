"""Errors of remembering a run.

* RecordingError         base; the message names the recording, the place and the way out
  - RecordingNotFound    no such recording, execution or file; also a FileNotFoundError
  - InvalidRecording     the bytes are not a recording of ours; also a ValueError
    - UnsupportedVersion a newer version wrote it
    - DamagedRecording   it was ours once: cut short, changed, or a checksum does not fit; ``first_seq`` and
                         ``last_seq`` name the events that are lost, where that is known; of a sealed file that
                         was looked through ``damaged`` has all ranges (``sealed.DamagedRange``), ``intact`` the
                         others as (first, last)
  - TooManyTags          a recording would have more tags than it may
  - RecordingProtected   it is on legal hold and may not be removed
  - BlobMissing          no blob with this SHA-256, or its file is gone
"""

from __future__ import annotations

from typing import Any


class RecordingError(Exception):
    """Something is wrong with a recording."""


class RecordingNotFound(RecordingError, FileNotFoundError):
    """There is no such recording."""

    def __str__(self) -> str:
        """Return the message as it was given."""
        return str(self.args[0]) if self.args else ""


class TooManyTags(RecordingError):
    """A recording would have more tags than it may."""


class InvalidRecording(RecordingError, ValueError):
    """The bytes are not a recording."""


class UnsupportedVersion(InvalidRecording):
    """The recording is of a version that this program cannot read."""


class DamagedRecording(InvalidRecording):
    """The recording was changed or cut short after it was written."""

    def __init__(
        self,
        message: str,
        *,
        first_seq: int | None = None,
        last_seq: int | None = None,
        reason: str = "",
        damaged: tuple[Any, ...] = (),
        intact: tuple[tuple[int, int], ...] = (),
    ) -> None:
        super().__init__(message)
        self.damaged = damaged
        self.intact = intact
        self.first_seq = first_seq
        self.last_seq = last_seq
        self.reason = reason or message


class RecordingProtected(RecordingError):
    """The recording may not be removed."""


class BlobMissing(RecordingError, FileNotFoundError):
    """There is no blob with this SHA-256."""

    def __str__(self) -> str:
        """Return the message as it was given."""
        return str(self.args[0]) if self.args else ""
