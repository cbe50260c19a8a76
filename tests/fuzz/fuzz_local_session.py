"""The embedded Realtime server's session: whatever a client sends becomes events, never an exception."""

import json

from fastagent.audio.formats import Encoding
from fastagent.local.jobs import Hear
from fastagent.local.session import LocalSession

JOBS_PER_LINE_MAX = 20


def check(data: bytes) -> None:
    """A line is a client event; one that begins with ``+`` lets as many hundredths of a second pass."""
    now = 1000.0
    session = LocalSession(model="local", now=now, unix_s=1_700_000_000.0)
    for line in data.split(b"\n"):
        if line.startswith(b"+"):
            digits = line[1:4]
            now += int(digits) / 100 if digits.isdigit() else 0.02
            session.advance(now)
        else:
            session.receive(line, now)
        for _ in range(JOBS_PER_LINE_MAX):
            jobs = session.jobs_to_run()
            for job in jobs:
                if isinstance(job, Hear):
                    session.receive_heard(job.item_id, "what are your opening hours", now)
                else:
                    width = 2 if job.output_format.encoding is Encoding.PCM16 else 1
                    session.receive_speech(job.response_id, bytes(width * 1600), now)
            if not jobs:
                break
        deadline = session.next_deadline()
        assert deadline is None or deadline > 0
        for message in session.messages_to_send():
            assert isinstance(json.loads(message)["type"], str)
