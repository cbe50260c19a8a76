"""Random calls over Twilio: the brain, the real codec, and one buffer that sends marks back.

The model and the ear are those of `test_brain_property`, and as strict. The carrier is Twilio's buffer: marks
come back when they are reached, late or never, and at a ``clear`` all at once, played or not. Whatever the
order, no truncation is refused by the model, and no mark that was cleared passes for one that was heard.
"""

import base64
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest

from fastagent.bridge.brain import Phase
from fastagent.wire import events as carrier
from fastagent.wire import realtime_events as model
from fastagent.wire.twilio import TWILIO_MEDIA, TwilioCodec
from tests.property.test_brain_property import LIMITS, Ear, StrictCarrier, World

STREAM = "MZ1"
CALLS = 3_000
"""A process; four of them are run."""
STEPS = 24
PIECES_MS = (20, 60, 100, 400, 1000)
WAITS_S = (1 / 64, 1 / 16, 1 / 8, 0.25, 0.5, 1.0, 2.0, 5.0)


@dataclass
class StrictTwilio(StrictCarrier):
    """Twilio's play buffer, behind the real codec."""

    codec: TwilioCodec = field(default_factory=TwilioCodec)
    is_begun: bool = False
    pending: list[tuple[float, str]] = field(default_factory=list)
    """Marks in the buffer, and when each is reached."""
    echoes: list[tuple[float, str]] = field(default_factory=list)
    cleared: set[str] = field(default_factory=set)
    sequence: int = 1
    acknowledged: int = 0
    refused: int = 0

    def begin(self) -> None:
        self.is_begun = True
        media = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        inner = {"streamSid": STREAM, "accountSid": "AC1", "callSid": "CA1", "mediaFormat": media}
        self.codec.receive(json.dumps({"event": "start", "streamSid": STREAM, "start": inner}).encode())
        self.codec.send(carrier.AcceptSession(TWILIO_MEDIA))

    def template(self, playback_id: str) -> tuple[bytes, bytes]:
        template = self.codec.playback_template(playback_id)
        return template.prefix, template.suffix

    def audio_in(self, message: bytes) -> bytes:
        parsed = json.loads(message)
        assert parsed.keys() == {"event", "streamSid", "media"}
        assert (parsed["event"], parsed["streamSid"]) == ("media", STREAM)
        assert self.open_id, "audio outside a playback"
        return base64.b64decode(parsed["media"]["payload"])

    def open(self, playback_id: str) -> None:
        if not self.is_begun:
            self.begin()
        super().open(playback_id)
        assert self.codec.send(carrier.OpenPlayback(playback_id, TWILIO_MEDIA)) == []

    def close(self, playback_id: str, now: float) -> None:
        assert playback_id == self.open_id, "closed a playback that is not open"
        self.open_id = ""
        [message] = self.codec.send(carrier.ClosePlayback(playback_id))
        mark = json.loads(message)
        assert mark == {"event": "mark", "streamSid": STREAM, "mark": {"name": mark["mark"]["name"]}}
        self._reach(now)
        self.pending.append((max(now, self.ear.free_at), mark["mark"]["name"]))
        self._plan()

    def abort(self, now: float) -> None:
        if not self.is_begun:
            self.begin()
        [message] = self.codec.send(carrier.AbortPlayback())
        assert json.loads(message) == {"event": "clear", "streamSid": STREAM}
        self._reach(now)
        for _, name in self.pending:
            self.cleared.add(name)
            self._echo(now, name)
        self.pending.clear()
        self._plan()
        self.ear.cut(now)

    def drop_socket(self, now: float) -> None:
        super().drop_socket(now)
        self.pending.clear()
        self.echoes.clear()

    def _plan(self) -> None:
        """Say when `finished` has something to tell next."""
        self.due = sorted([*self.pending[:1], *self.echoes[:1]])

    def _reach(self, now: float) -> None:
        while self.pending and self.pending[0][0] <= now:
            self._echo(*self.pending.pop(0))

    def _echo(self, at: float, name: str) -> None:
        if self.finishes == "lossy" and self.chance.random() < 0.3:
            return
        late_s = self.chance.choice([0.0, 0.0, 1 / 32, 0.25, 1.0])
        # They come back in order, however late.
        self.echoes.append((max([at + late_s, *(due for due, _ in self.echoes[-1:])]), name))

    def finished(self, now: float) -> Sequence[carrier.CarrierEvent]:
        self._reach(now)
        events: list[carrier.CarrierEvent] = []
        while self.echoes and self.echoes[0][0] <= now:
            _, name = self.echoes.pop(0)
            self.sequence += 1
            message = {"event": "mark", "sequenceNumber": str(self.sequence), "streamSid": STREAM}
            told = self.codec.receive(json.dumps({**message, "mark": {"name": name}}).encode())
            finished = [one for one in told if isinstance(one, carrier.PlaybackFinished)]
            assert not (finished and name in self.cleared), "a cleared mark was taken for a played one"
            self.acknowledged += len(finished)
            self.refused += len(told) - len(finished)
            events += told
        self._plan()
        return events


class TwilioWorld(World):
    """A lost socket does not come back."""

    limits = replace(LIMITS, resume_grace_s=0.0)
    line: StrictTwilio

    def new_line(self, ear: Ear, finishes: str) -> StrictCarrier:
        return StrictTwilio(ear, finishes, random.Random(ear.rate + len(finishes)))


def speak(world: TwilioWorld, chance: random.Random) -> None:
    if world.server is not None and world.server.active:
        for _ in range(chance.randint(1, 4)):
            world.server.talk(chance.choice(PIECES_MS))
        if chance.random() < 0.8:
            world.server.end(model.ResponseStatus.COMPLETED)
    world.deliver(chance.choice([1, 2, 1000]))


def interrupt(world: TwilioWorld, chance: random.Random) -> None:
    server = world.server
    if server is None:
        return
    if server.hears_caller:
        server.hear_silence()
    else:
        server.hear_speech()
    if chance.random() < 0.7:
        world.deliver()


def answer(world: TwilioWorld, chance: random.Random) -> None:
    if world.server is not None:
        if not world.server.hears_caller:
            world.server.hear_speech()
        world.server.hear_silence()
        speak(world, chance)


def wait(world: TwilioWorld, chance: random.Random) -> None:
    world.wait(chance.choice(WAITS_S))


def call_function(world: TwilioWorld, chance: random.Random) -> None:
    if world.server is not None and world.server.active:
        world.server.call()
        world.deliver()
    elif world.functions:
        world.return_function(min(world.functions), should_respond=chance.random() < 0.8)


def announce(world: TwilioWorld, chance: random.Random) -> None:
    is_over = world.brain.phase is Phase.ENDED
    world.do(world.brain.announce("News.", world.now), is_over=is_over)


def misfortune(world: TwilioWorld, chance: random.Random) -> None:
    match chance.randrange(8):
        case 0 if world.server is not None:
            world.lose_model()
        case 1 if world.line.is_connected:
            world.lose_carrier()
        case 2:
            is_over = world.brain.phase is Phase.ENDED
            world.do(world.brain.hang_up("bye", world.now), is_over=is_over)
        case _ if world.server is None or world.wants_replacement:
            world.open_model()


Action = Callable[[TwilioWorld, random.Random], None]
ACTIONS: dict[Action, int] = {
    speak: 6,
    interrupt: 5,
    answer: 4,
    wait: 7,
    call_function: 1,
    announce: 1,
    misfortune: 1,
}


def play(seed: int) -> StrictTwilio:
    """One call; any step that breaks a rule raises."""
    chance = random.Random(seed)
    world = TwilioWorld(
        is_passthrough=True,
        lead_ms=chance.choice([200, 400, 400, 60_000]),
        link_delay_ms=chance.choice([0, 0, 125]),
        interrupts=chance.random() < 0.5,
        finishes=chance.choice(["real", "real", "lossy"]),
        closes_when_heard=False,
    )
    for action in chance.choices(list(ACTIONS), list(ACTIONS.values()), k=STEPS):
        action(world, chance)
    world.end()
    return world.line


@pytest.mark.parametrize("process", range(4))
def test_no_truncation_is_refused_and_no_cleared_mark_believed(process: int) -> None:
    acknowledged = cleared = refused = 0
    for number in range(CALLS):
        seed = process * CALLS + number
        try:
            line = play(seed)
        except AssertionError as error:
            raise AssertionError(f"call {seed}: {error}") from error
        acknowledged += line.acknowledged
        cleared += len(line.cleared)
        refused += line.refused
    # The calls were of the kind that this is about.
    assert acknowledged > CALLS / 4
    assert min(cleared, refused) > CALLS
