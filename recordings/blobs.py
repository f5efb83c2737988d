"""Blobs: large values by their SHA-256, each stored once, with a reference from every execution that needs it."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import re
import shutil
from collections.abc import Collection, Sequence
from datetime import datetime
from pathlib import Path
from typing import IO, cast
from uuid import UUID

from django.core.files.base import ContentFile, File
from django.core.files.storage import Storage, storages
from django.db import transaction
from django.db.models.functions import Length
from django.utils.deconstruct import deconstructible

from recordings.errors import BlobMissing, DamagedRecording, RecordingError
from recordings.export import atomic_write
from recordings.models import Blob, BlobRef, StoredFile
from recordings.patience import is_over

logger = logging.getLogger(__name__)

SWEEP_BLOBS = 500


REMOVED_TOGETHER = 100


_SHA256 = re.compile(r"[0-9a-f]{64}")


_LOCK_TRIES = 5


@deconstructible
class DatabaseFileStorage(Storage):
    """A Django storage whose files are rows of ``StoredFile``, so that several hosts need only the database.

    Meant for content-addressed names: saving a name that exists keeps what is there.
    """

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        content = StoredFile.objects.filter(pk=name).values_list("content", flat=True).first()
        if content is None:
            raise FileNotFoundError(f"no stored file {name}")
        return ContentFile(bytes(content), name=name)

    def _save(self, name: str, content: File[bytes]) -> str:
        content.seek(0)
        StoredFile.objects.bulk_create([StoredFile(name=name, content=content.read())], ignore_conflicts=True)
        return name

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        """Return ``name``: equal names have equal content."""
        return name

    def exists(self, name: str) -> bool:
        """Return whether there is such a file."""
        return StoredFile.objects.filter(pk=name).exists()

    def delete(self, name: str) -> None:
        """Remove a file if it is there."""
        StoredFile.objects.filter(pk=name).delete()

    def size(self, name: str) -> int:
        """Return the size in bytes.

        Raises:
            FileNotFoundError: there is no such file.
        """
        size = StoredFile.objects.filter(pk=name).values_list(Length("content"), flat=True).first()
        if size is None:
            raise FileNotFoundError(f"no stored file {name}")
        return int(size)

    def get_created_time(self, name: str) -> datetime:
        """Return when the file was saved.

        Raises:
            FileNotFoundError: there is no such file.
        """
        moment = StoredFile.objects.filter(pk=name).values_list("created_at", flat=True).first()
        if moment is None:
            raise FileNotFoundError(f"no stored file {name}")
        return moment


def save_blob(content: bytes, content_type: str, execution_id: UUID | str) -> str:
    """Store bytes for an execution and return their SHA-256; equal bytes are stored once.

    The file, its row and the reference are there together or not at all. May be called twice.
    """
    sha256 = hashlib.sha256(content).hexdigest()
    write_early(sha256, io.BytesIO(content))
    with transaction.atomic():
        refer(sha256, io.BytesIO(content), len(content), content_type, UUID(str(execution_id)))
    return sha256


def read_blob(sha256: str) -> bytes:
    """Return the bytes of a blob.

    Raises:
        BlobMissing: there is none with this name, or its file is gone.
        DamagedRecording: its file was changed.
    """
    with open_blob(sha256) as file:
        content: bytes = file.read()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedRecording(f"blob {sha256[:12]}… was changed in its storage: its SHA-256 does not fit")
    return content


def open_blob(sha256: str) -> IO[bytes]:
    """Return an open file with the bytes of a blob, unchecked.

    Raises:
        BlobMissing: there is none with this name, or its file is gone.
    """
    if not _SHA256.fullmatch(sha256):
        raise BlobMissing(f'"{sha256[:80]}" is not the SHA-256 of a blob')
    try:
        return cast(IO[bytes], storages["blobs"].open(_blob_name(sha256)))
    except FileNotFoundError as error:
        raise BlobMissing(
            f"blob {sha256[:12]}… is not in the storage; it may have been removed by retention"
        ) from error


def _blob_name(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256}"


def file_path(sha256: str) -> Path | None:
    """Return where the ``blobs`` storage keeps the file, or None when that is no local file."""
    try:
        return Path(storages["blobs"].path(_blob_name(sha256)))
    except NotImplementedError:
        return None


def write_early(sha256: str, file: IO[bytes]) -> None:
    """Write a local file before the transaction, so that no database lock waits for the disk."""
    path = file_path(sha256)
    if path is not None and not path.exists():
        atomic_write(path, lambda target: shutil.copyfileobj(file, target))


def refer(sha256: str, file: IO[bytes], size: int, content_type: str, execution_id: UUID) -> None:
    """Make sure of row, reference and file. Holds the row's lock, so that no removal comes between."""
    for _ in range(_LOCK_TRIES):
        Blob.objects.bulk_create(
            [Blob(sha256=sha256, size_bytes=size, content_type=content_type[:100])], ignore_conflicts=True
        )
        if Blob.objects.select_for_update().filter(pk=sha256).values_list("pk", flat=True).first():
            break  # otherwise a removal ended between the two statements
    else:
        raise RecordingError(f"blob {sha256[:12]}… could not be stored: it is removed again and again")
    BlobRef.objects.bulk_create([BlobRef(blob_id=sha256, execution_id=execution_id)], ignore_conflicts=True)
    name, path = _blob_name(sha256), file_path(sha256)
    if path is not None:
        file.seek(0)
        write_early(sha256, file)
    elif not storages["blobs"].exists(name):
        file.seek(0)
        storages["blobs"].save(name, File(file))


def drop_references(execution_ids: Collection[UUID]) -> list[str]:
    """Forget the blobs of executions; return their names for ``remove_blobs``, once that is committed."""
    refs = BlobRef.objects.filter(execution_id__in=execution_ids)
    names = list(refs.order_by("blob_id").values_list("blob_id", flat=True).distinct())
    refs.delete()
    return names


def remove_blobs(sha256s: Sequence[str]) -> int:
    """Remove those blobs that nobody refers to, and return how many went; what fails is left to ``sweep_blobs``."""
    removed = 0
    for start in range(0, len(sha256s), REMOVED_TOGETHER):
        some = sha256s[start : start + REMOVED_TOGETHER]
        try:
            removed += _remove_blobs(some)
        except Exception:  # one bad file must not hold up the others
            removed += sum(map(_removed_alone, some))
    return removed


def _removed_alone(sha256: str) -> int:
    try:
        return _remove_blobs([sha256])
    except Exception:
        logger.exception("blob %s was not removed", sha256[:12])
        return 0


def sweep_blobs(before: datetime, until: float = math.inf) -> int:
    """Remove what crashes left behind before a moment: blobs without references, files without rows.

    Goes on until all are gone, or ``until`` on the monotonic clock; returns how many went.
    """
    removed, last = 0, ""
    while not is_over(until):
        unused = Blob.objects.filter(refs=None, created_at__lt=before, pk__gt=last).order_by("pk")
        names = list(unused.values_list("pk", flat=True)[:SWEEP_BLOBS])
        if not names:
            break
        removed, last = removed + remove_blobs(names), names[-1]
    return removed + _sweep_files(before.timestamp(), until)


def _sweep_files(before: float, until: float) -> int:
    """Remove local files without a row, and unfinished ones; both come from processes that were killed."""
    some = file_path("0" * 64)
    if some is None or not some.parent.parent.is_dir():
        return 0
    removed = 0
    for directory in sorted(some.parent.parent.iterdir()):
        if is_over(until):
            break
        if not directory.is_dir():
            continue
        old = [path for path in directory.iterdir() if path.stat().st_mtime < before]
        known = set(Blob.objects.filter(pk__in=[path.name for path in old]).values_list("pk", flat=True))
        for path in old:
            if _SHA256.fullmatch(path.name) and path.name not in known:
                removed += _remove_file(path)
            elif path.name.endswith(".tmp"):
                path.unlink(missing_ok=True)
                removed += 1
    return removed


def _remove_file(path: Path) -> bool:
    """Remove a file without a row; its own row keeps away those who would store the same bytes now."""
    with transaction.atomic():
        Blob.objects.bulk_create([Blob(sha256=path.name, size_bytes=0)], ignore_conflicts=True)
        return bool(_remove_blobs([path.name]))


def _remove_blobs(sha256s: Sequence[str]) -> int:
    """Remove the blobs without references among these. The files go first, under the rows' locks; see ``refer``."""
    with transaction.atomic():
        locked = Blob.objects.select_for_update().filter(pk__in=sha256s).order_by("pk")
        found = set(locked.values_list("pk", flat=True))
        unused = sorted(found - set(BlobRef.objects.filter(blob_id__in=found).values_list("blob_id", flat=True)))
        for sha256 in unused:
            storages["blobs"].delete(_blob_name(sha256))
        Blob.objects.filter(pk__in=unused).delete()
    return len(unused)
