"""Many calls of a load test on one thread: sockets, due times and the account of the audio.

The engine makes no handshake and knows no vendor: it takes sockets whose upgrade is done, sends clips frame by
frame when they are due, whatever the last frame did, and looks at the audio that comes back. The rest of a call
becomes events. `native/include/fa_load.h` says how audio is matched and what a latency is.
"""

from typing import Final, final

from fastagent._native.envelope import EnvelopeSpec

LOUD: Final[int]
"""The least sample (int16) that counts as loud."""

QUIET_MS: Final[int]
"""So much quiet makes the next loud sample a mark."""

TEMPLATE_BYTES_MAX: Final[int]
"""The longest template of a media message."""

AT_SEQUENCE: Final[bytes]
"""In a template: the number of this message, of all kinds."""

AT_CHUNK: Final[bytes]
"""In a template: the number of this media message."""

AT_TIME_MS: Final[bytes]
"""In a template: the audio sent before this message, in milliseconds."""

AT_AUDIO: Final[bytes]
"""In a template: the base64 audio."""

MESSAGE: Final[int]
"""Kind of an event: a message that is not media, or holds no audio; the value says when the audio so far will be played, in ns."""

CLOSED: Final[int]
"""Kind of an event: the socket is gone; the value is the close code."""

ONSET: Final[int]
"""Kind of an event: the peer begins to speak."""

QUIET: Final[int]
"""Kind of an event: the peer has been quiet for as long as was asked."""

SAID: Final[int]
"""Kind of an event: a clip is out; the value says when its last loud frame ended, in ns."""

SIGN: Final[int]
"""Kind of an event: a connection of the model, not paired yet, heard a caller's sign; the value is its number."""

SIGN_LEVEL: Final[int]
"""The least sample (int16) of a murmur, of which signs are made."""

SIGN_NUMBERS: Final[int]
"""Signs have numbers below this."""

HISTOGRAMS: Final[tuple[str, ...]]
"""``late`` and ``read_late`` are our own; ``up`` goes to the model, ``down`` to the caller; ``frame`` verbatim, ``mark`` by content."""

COUNTERS: Final[tuple[str, ...]]
"""Names of what `LoadEngine.counters` gives."""

CLASS_EDGES_NS: Final[tuple[int, ...]]
"""The lower edge of each class of a histogram."""

def sign_intervals_ms(number: int) -> list[int]:
    """From each murmur of a sign to the next, in ms: the first interval begins the number.

    Raises:
        ValueError: not below `SIGN_NUMBERS`.
    """

@final
class LoadEngine:
    """Sockets, due times and the account of the audio of many calls.

    `run` belongs to a thread of its own; everything else may be called from any other. A method that names a
    connection gives False when that is gone.
    """

    def __new__(cls) -> LoadEngine: ...
    def run(self) -> None:
        """Serve until `stop`, without the GIL.

        Raises:
            RuntimeError: it runs already.
        """

    def stop(self) -> None:
        """End `run`."""

    def fileno(self) -> int:
        """A descriptor that is readable while there are events."""

    def events(self) -> list[tuple[int, int, int, int, bytes]]:
        """All that happened since the last call, in order: connection, kind, monotonic ns, value, text."""

    def add_spec(self, spec: EnvelopeSpec) -> int:
        """Declare a media message; gives its number, for `add`.

        Raises:
            ValueError: there are 16 already.
        """

    def add_clip(self, text: bytes, frames: int, frame_ms: float, flags: bytes, mark_us: bytes) -> int:
        """Declare a clip; gives its number.

        Args:
            text: base64 of all frames, one behind the other; each of the same length.
            frame_ms: audio in each.
            flags: a byte for each frame: 1 it is loud somewhere, 2 it holds a mark.
            mark_us: uint32 (native) for each frame: where its mark stands, in microseconds from its start.

        Raises:
            ValueError: sizes that do not fit, or too many clips.
        """

    def add(
        self,
        fd: int,
        *,
        is_client: bool,
        is_up: bool,
        spec: int,
        media: bytes,
        end_quiet_ms: int,
        first: bytes = b"",
    ) -> int:
        """Take over a connected socket whose upgrade is done; gives the connection's number.

        Args:
            fd: owned by the engine from now on.
            is_client: our frames are masked.
            is_up: what is sent here goes to the model.
            spec: of the media messages that come in.
            media: template of those that go out.
            end_quiet_ms: quiet after speech that is told as `QUIET`; 0 never.
            first: what was read behind the upgrade.

        Raises:
            ValueError: the template is too long.
            MemoryError: no room; the descriptor is still the caller's.
        """

    def set_format(self, connection: int, encoding: str, sample_rate: int) -> bool:
        """Say what comes in: ``pcm16``, ``mulaw`` or ``alaw``, and its rate in Hz.

        Raises:
            ValueError: another encoding, or a rate outside 8000 to 48000.
        """

    def set_media(self, connection: int, media: bytes) -> bool:
        """Another template for the media messages sent from now on; False too when it is too long."""

    def pair(self, one: int, other: int) -> bool:
        """What one sends the other shall hear, from the next clip that is said; False when either has a partner."""

    def send(self, connection: int, text: bytes) -> bool:
        """Send a text message, a template too."""

    def idle(self, connection: int, clip: int) -> bool:
        """Send a clip over and over while nothing is said; -1 sends nothing then."""

    def say(self, connection: int, clip: int) -> bool:
        """Say a clip once, from the next frame on."""

    def hush(self, connection: int) -> bool:
        """Stop saying; what has not arrived is not expected any more."""

    def mute(self, connection: int) -> bool:
        """Send no more frames."""

    def expect(self, connection: int) -> bool:
        """Tell of the next loud sample after some quiet as `ONSET`."""

    def cut(self, connection: int) -> bool:
        """Count what was not yet played as dropped."""

    def times(self, connection: int) -> tuple[int, int, int]:
        """When audio last came, when the first loud frame of what is said was due, when all will be played (ns)."""

    def close(self, connection: int, code: int = 1000, *, is_abrupt: bool = False) -> bool:
        """Close a connection with a code, or reset it."""

    def take_histogram(self, name: str) -> tuple[bytes, int]:
        """Counts by class (uint32, native) since the last call, and the largest value in ns.

        Raises:
            ValueError: no such histogram.
        """

    def counters(self) -> dict[str, int]:
        """All counters, by name."""
