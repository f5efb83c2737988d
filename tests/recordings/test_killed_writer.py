"""A process that writes a sealed file is killed: what it flushed is there, and the rest is named."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from recordings import ExecutionReplayer, SealedRecording
from recordings.errors import DamagedRecording
from recordings.events import RecordingEvent, RecordingEventType, event_id

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import os, random, signal, sys, time
from recordings import SealedWriter
from recordings.events import RecordingMetadata
from tests.recordings.test_killed_writer import written

def write(path, chance, acknowledge):
    writer = SealedWriter.create(path, "w", RecordingMetadata("r", "killed", 1.0))
    os.write(acknowledge, b"0\\n")
    seq = 0
    while True:
        batch = [written(seq + place) for place in range(1, chance.randrange(2, 60))]
        writer.append(batch)
        seq += len(batch)
        if chance.random() < 0.7:
            writer.flush(sync=chance.random() < 0.05)
            os.write(acknowledge, b"%d\\n" % seq)

for number in range(int(sys.argv[2])):
    chance = random.Random(number)
    read, write_end = os.pipe()
    child = os.fork()
    if not child:
        write(f"{sys.argv[1]}/{number}.fbrec", chance, write_end)
    os.close(write_end)
    acknowledgements = os.fdopen(read)
    for _ in range(chance.randrange(1, 25)):
        last = acknowledgements.readline()
    time.sleep(chance.random() * 0.004)
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    print(([last] + acknowledgements.readlines())[-1].strip(), flush=True)
"""


def written(seq: int) -> RecordingEvent:
    """Return event ``seq`` of the run that is killed."""
    text = random.Random(seq).randbytes(20).hex()
    data = {"outputs": {f"key{seq % 9}": seq, "text": text * (60 if seq % 50 == 0 else 1)}}
    kind = RecordingEventType.NODE_COMPLETE if seq % 2 else RecordingEventType.LOG
    return RecordingEvent(event_id("w", seq), kind, seq / 4, "w", f"node{seq % 7}", data, {"recursion_depth": 0}, seq)


@pytest.mark.row("S0-43")
def test_a_writer_killed_at_any_moment_leaves_every_event_it_flushed(tmp_path: Path) -> None:
    kills = 100
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path), str(kills)], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    flushed = [int(line) for line in done.stdout.split()]
    assert len(flushed) == kills
    for number, promised in enumerate(flushed):
        path = tmp_path / f"{number}.fbrec"
        with pytest.raises(DamagedRecording, match="cut short, or never closed"):
            SealedRecording.open(path)
        with SealedRecording.recover(path) as recording:
            count = len(recording)
            assert count >= promised, number
            assert list(recording) == [written(seq) for seq in range(1, count + 1)], number
            assert recording.metadata.workflow_name == "killed"
            if count:
                plain = ExecutionReplayer(None, recording.metadata, [written(seq) for seq in range(1, count + 1)])
                assert recording.state_at(count - 1) == plain.get_state_at_position(count - 1)
            report = recording.verify()
            assert report.intact == (((1, count),) if count else ())
            assert report.damaged[-1].last_seq is None
            assert report.damaged[0].first_seq == count + 1
    assert len(set(flushed)) > kills // 4
