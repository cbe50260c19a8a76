"""Audio of a client that the native path does not take: another format than the session's, or a WAV whose
header says what it is. It is brought into the session's format, as messages that the native path takes.
"""

import base64

from fastagent._native.envelope import EnvelopeSpec
from fastagent._native.pump import Uplink
from fastagent.audio import wav
from fastagent.audio.formats import AudioFormat
from fastagent.errors import FormatMismatchError
from fastagent.wire.agentws_words import Media
from fastagent.wire.json_message import dump_json

__all__ = ["AudioReader", "media_message"]

SAMPLE_RATES = (8_000, 16_000, 24_000)
HELD_BYTES_MAX = 65_536
"""Of a WAV header that comes in pieces."""

_SPEC = EnvelopeSpec(("type",), ("audio",), ("data",))
_PREFIX = b'{"type":"audio","data":"'
_SUFFIX = b'"}'


def media_message(format: str, audio_base64: bytes) -> bytes:
    """An ``audio_data`` message of the session's own format."""
    head = b'{"type":"audio_data","payload":{"format":' + dump_json(format) + b',"data":"'
    return head + audio_base64 + b'"}}'


class AudioReader:
    """Reads chunks of any of our formats; state is kept from chunk to chunk of one format.

    Args:
        media: what the session has.
    """

    def __init__(self, media: Media) -> None:
        self._media = media
        self._source: AudioFormat | None = None
        self._converter: Uplink | None = None
        self._wav_format: AudioFormat | None = None
        self._held = b""
        """The beginning of a WAV header that is not whole yet."""

    def read(self, format: AudioFormat | None, has_header: bool, data: str) -> bytes | None:
        """A chunk as a message that the native path takes; None when nothing comes of it yet.

        Args:
            format: of its samples; None where a WAV header tells.
            data: base64.

        Raises:
            ValueError: not canonical base64.
            FormatMismatchError: a WAV without a header, or of a kind that is not ours.
        """
        if has_header:
            audio, format = self._unwrap(self._held + _decoded(data))
            if format is None:
                return None
            data = base64.b64encode(audio).decode()
        assert format is not None
        if self._converter is None or self._source != format:
            self._source, self._converter = format, self._conversion(format)
        out = self._converter.feed(_PREFIX + data.encode("ascii", "replace") + _SUFFIX)
        if out is None:
            return None
        return media_message(self._media.chunk_format, out[len(_PREFIX) : -len(_SUFFIX)])

    def _conversion(self, format: AudioFormat) -> Uplink:
        wanted = self._media.offer.format
        return Uplink(
            _SPEC,
            format.encoding.value,
            format.sample_rate,
            wanted.encoding.value,
            wanted.sample_rate,
            _PREFIX,
            _SUFFIX,
        )

    def _unwrap(self, audio: bytes) -> tuple[bytes, AudioFormat | None]:
        """The samples of a WAV's chunk and their format: its own header's, else the last one's.

        Where more bytes are needed to tell, they are held and the format is None.
        """
        self._held = b""
        begins = b"RIFF".startswith(audio[:4])
        if not begins or (len(audio) < 4 and self._wav_format is not None):
            if self._wav_format is None:
                raise FormatMismatchError("expected a RIFF/WAVE header in the first chunk")
            return audio, self._wav_format
        header = wav.parse_header(audio)
        if header is None:
            if len(audio) >= HELD_BYTES_MAX:
                raise FormatMismatchError(f"expected a WAV header of less than {HELD_BYTES_MAX} bytes")
            self._held = audio
            return b"", None
        if header.channels != 1:
            raise FormatMismatchError(f"expected one WAV channel, got {header.channels}")
        if header.format.sample_rate not in SAMPLE_RATES:
            raise FormatMismatchError(
                f"expected a WAV of 8000, 16000 or 24000 Hz, got {header.format.sample_rate}"
            )
        self._wav_format = header.format
        samples = audio[header.data_offset :]
        # What follows the samples in one piece with them is no sound. A size that is less than what comes in
        # later pieces is not believed: clients write the header before they know.
        return samples[: header.data_bytes], header.format


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError:
        raise ValueError("not base64") from None
