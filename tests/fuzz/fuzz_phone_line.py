"""The scripted phone's side of the protocol: whatever a bot sends is noted, never raised."""

import json

from fastagent.testing.audiocodes_phone import LineOptions, PhoneLine

FORMATS = ("raw/lpcm16", "wav/lpcm16_8", "raw/mulaw")


class QuietLine(PhoneLine):
    """Without the second of comfort noise that takes long to make."""

    def _comfort_noise(self, sample_rate: int) -> bytes:
        return bytes(2 * sample_rate)


def check(data: bytes) -> None:
    """The first byte picks the format of the accepted session; then a line is a message."""
    if not data:
        return
    line = QuietLine(LineOptions(formats=FORMATS))
    line.initiate(0.0)
    media = FORMATS[data[0] % len(FORMATS)]
    line.receive(json.dumps({"type": "session.accepted", "mediaFormat": media}).encode(), 0.0)
    for at, message in enumerate(data[1:].split(b"\n")):
        now = at / 10
        line.receive(message, now)
        line.advance(now + 0.05)
        deadline = line.next_deadline(now + 0.05)
        assert deadline is None or deadline > now + 0.05 - 1e-9
        for answer in line.messages_to_send():
            json.loads(answer)
    line.recording(8000)
