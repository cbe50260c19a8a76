"""The ledger against an ear that plays every sample: random items, waits, ends, acknowledgements, cuts."""

import base64
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from fastagent._native.pump import Downlink
from fastagent.audio.formats import ALAW_8K, MULAW_8K, PCM16_8K, PCM16_16K, PCM16_24K, AudioFormat
from fastagent.media.playout import LOST_FINISH_S, Admission, PlayoutLedger
from fastagent.media.pumps import MediaPlan, build_downlink
from fastagent.wire.events import MediaOffer
from fastagent.wire.openai_realtime import AUDIO_MEDIA

FORMATS = [
    (MULAW_8K, MULAW_8K),
    (ALAW_8K, ALAW_8K),
    (PCM16_24K, PCM16_24K),
    (PCM16_8K, PCM16_24K),
    (PCM16_16K, PCM16_24K),
]
ROUNDING_MS = 1.2
"""One for whole milliseconds, and a sample or two."""

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("audio"), st.integers(0, 3), st.sampled_from([5, 20, 100, 250, 700])),
        st.tuples(st.just("wait"), st.just(0), st.sampled_from([1, 7, 20, 60, 300, 1500])),
        st.tuples(st.just("item done"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("response done"), st.just(0), st.just(0)),
        st.tuples(st.just("finish"), st.just(0), st.just(0)),
        st.tuples(st.just("cut"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


class Scene:
    """The ledger, the real downlink, and what a far end would truly have played."""

    def __init__(self, formats: tuple[AudioFormat, AudioFormat], lead_ms: int, link_delay_ms: int) -> None:
        self.line, self.model = formats
        plan = MediaPlan(MediaOffer("line", self.line), self.model)
        self.downlink: Downlink = build_downlink(plan, AUDIO_MEDIA, lead_ms=lead_ms, queue_limit_ms=600_000)
        self.downlink.set_template(b'{"audio":"', b'"}')
        self.downlink.on_item = self._meet_item
        self.ledger = PlayoutLedger(self.downlink, self.line, self.model, link_delay_ms=link_delay_ms)
        self.delay_s = link_delay_ms / 1000
        self.now = 50.0
        self.generation = 0
        self.queue: list[tuple[str, int]] = []
        self.played: list[tuple[str, float, int]] = []
        self.free_at = 0.0
        self.received_ms: dict[str, int] = {}
        self.playback = 0
        self.unfinished: list[float] = []
        self.over: set[str] = set()

    @property
    def response_id(self) -> str:
        return f"r{self.generation}"

    def item_id(self, number: int) -> str:
        return f"i{self.generation}.{number}"

    def _meet_item(self, response_id: str, item_id: str, content_index: int) -> bool:
        admission = self.ledger.open_item(response_id, item_id, content_index, self.now)
        assert (admission is Admission.PLAYED) is (response_id not in self.over)
        return admission is Admission.PLAYED

    def audio(self, response_id: str, item_id: str, ms: int) -> None:
        delta = {
            "type": "response.output_audio.delta",
            "response_id": response_id,
            "item_id": item_id,
            "content_index": 0,
            "delta": base64.b64encode(self.model.silence(ms)).decode(),
        }
        sent, received = self.downlink.sent, self.downlink.received
        message = self.downlink.feed(json.dumps(delta).encode(), self.now)
        if self.downlink.received > received:
            self.received_ms[item_id] = self.received_ms.get(item_id, 0) + ms
        self._note(item_id, self.downlink.sent - sent)
        self._leave(message)
        self.send_due()

    def _note(self, item_id: str, left: int = 0) -> None:
        added = self.downlink.queued + left - sum(n for _, n in self.queue)
        if added > 0:
            self.queue.append((item_id, added))

    def _leave(self, message: bytes | None) -> None:
        if message is None:
            return
        samples = self.line.samples(len(base64.b64decode(json.loads(message)["audio"])))
        while samples:
            item_id, n = self.queue[0]
            n = min(n, samples)
            start = max(self.now + self.delay_s, self.free_at)
            self.played.append((item_id, start, n))
            self.free_at = start + n / self.line.sample_rate
            samples -= n
            self.queue[0] = (item_id, self.queue[0][1] - n)
            if not self.queue[0][1]:
                del self.queue[0]

    def send_due(self) -> None:
        while (message := self.downlink.due(self.now)) is not None:
            self._leave(message)
        if self.ledger.is_complete and self.playback_is_open:
            self.playback += 1
            self.ledger.close_playback(f"p{self.playback}", self.now)
            self.unfinished.append(max(self.now, self.free_at))
            self.playback_is_open = False

    playback_is_open = False

    def wait(self, ms: int) -> None:
        end = self.now + ms / 1000
        while self.now < end:
            self.now = min(end, self.now + 0.02)
            self.send_due()

    def done(self, item_id: str | None) -> None:
        last = self.queue[-1][0] if self.queue else (self.played[-1][0] if self.played else "")
        if item_id is None:
            self.ledger.finish_response(self.response_id, self.now)
            self.over.add(self.response_id)
        else:
            self.ledger.finish_item(item_id, self.now)
        self._note(last)
        self.send_due()

    def heard_ms(self, item_id: str) -> float:
        rate = self.line.sample_rate
        spans = (
            min(n, max(0.0, (self.now - start) * rate)) for who, start, n in self.played if who == item_id
        )
        return sum(spans) * 1000 / rate

    def finish(self) -> None:
        """The carrier's word on its oldest playback, once that was heard; it says nothing late."""
        while self.unfinished and self.unfinished[0] < self.now - LOST_FINISH_S:
            del self.unfinished[0]
        if self.unfinished and self.unfinished[0] <= self.now:
            del self.unfinished[0]
            assert self.ledger.acknowledge(None, self.now)

    def cut(self) -> None:
        whole = {item_id for item_id in self.received_ms if item_id not in self._unheard()}
        cuts = self.ledger.cut(self.now)
        told = {cut.item_id: cut for cut in cuts}
        assert len(told) == len(cuts)
        for item_id, received_ms in self.received_ms.items():
            heard_ms = self.heard_ms(item_id)
            if item_id in told:
                cut = told[item_id]
                assert cut.received_ms <= received_ms
                assert cut.audio_end_ms <= cut.received_ms
                assert cut.audio_end_ms <= heard_ms + ROUNDING_MS
                # Silences on the way to the ear may be counted twice, to the safe side.
                assert cut.audio_end_ms >= min(heard_ms, received_ms) - ROUNDING_MS - 1000 * self.delay_s
            else:
                assert item_id in whole, "an item that was not heard whole was not cut"
        assert self.downlink.queued == 0
        assert not self.ledger.is_audible(self.now)
        assert self.ledger.is_complete
        self.over.add(self.response_id)
        for item_id in (self.item_id(0), self.item_id(7)):
            sent = self.downlink.sent
            self.audio_refused(item_id)
            assert self.downlink.sent == sent
        self.generation += 1
        self.queue.clear()
        self.played.clear()
        self.received_ms.clear()
        self.unfinished = [heard_at for heard_at in self.unfinished if heard_at <= self.now]
        self.free_at = self.now
        self.playback_is_open = False

    def audio_refused(self, item_id: str) -> None:
        if self.received_ms:
            self.ledger.refuse_response(self.response_id)
            self.audio(self.response_id, item_id, 20)

    def _unheard(self) -> set[str]:
        """Items of which something waits, or is not heard yet."""
        waiting = {item_id for item_id, _ in self.queue}
        flying = {
            item_id
            for item_id, start, n in self.played
            if start + n / self.line.sample_rate > self.now + ROUNDING_MS / 1000
        }
        return waiting | flying


@given(
    formats=st.sampled_from(FORMATS),
    lead_ms=st.sampled_from([200, 400, 60_000]),
    link_delay_ms=st.sampled_from([0, 40, 125]),
    steps=STEPS,
)
@settings(max_examples=400, deadline=None)
def test_what_is_told_was_heard(
    formats: tuple[AudioFormat, AudioFormat],
    lead_ms: int,
    link_delay_ms: int,
    steps: list[tuple[str, int, int]],
) -> None:
    scene = Scene(formats, lead_ms, link_delay_ms)
    for kind, number, ms in steps:
        if kind == "audio":
            if scene.response_id in scene.over:
                scene.generation += 1
            scene.playback_is_open = True
            scene.audio(scene.response_id, scene.item_id(number), ms)
        elif kind == "wait":
            scene.wait(ms)
        elif kind == "item done":
            scene.done(scene.item_id(number))
        elif kind == "response done":
            scene.done(None)
        elif kind == "finish":
            scene.finish()
        else:
            scene.cut()
        silent_at = scene.ledger.silent_at(scene.now)
        if silent_at is None:
            assert scene.downlink.queued > 0
        else:
            earliest = max(scene.now, scene.free_at)
            assert earliest - ROUNDING_MS / 1000 <= silent_at <= earliest + scene.delay_s + ROUNDING_MS / 1000
    scene.cut()
