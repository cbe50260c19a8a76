"""The native part of a call: pumps and tap, built for one offer and joined to whichever legs there are."""

from fastagent._native.listener import Leg
from fastagent._native.pump import Downlink, Uplink
from fastagent._native.tap import Tap
from fastagent.media.ears import EarsPlan, build_tap
from fastagent.media.playout import PlayoutLedger
from fastagent.media.pumps import MediaPlan, build_downlink, build_uplink, plan_media
from fastagent.settings import Settings
from fastagent.stats import Counters
from fastagent.wire import events as carrier
from fastagent.wire.openai_realtime import APPEND_TEMPLATE, AUDIO_MEDIA

__all__ = ["CallMedia"]


class CallMedia:
    """What carries a call's audio.

    Args:
        offers: the media that the carrier offered.
        codec: tells how the carrier's messages hold audio.
        ears: what is listened for.
        begun: when the call began, in monotonic seconds.

    Raises:
        UnsupportedMediaError: no offered format is usable.
    """

    def __init__(
        self,
        offers: tuple[carrier.MediaOffer, ...],
        codec: carrier.CarrierCodec,
        settings: Settings,
        ears: EarsPlan,
        begun: float,
    ) -> None:
        self.plan: MediaPlan = plan_media(offers)
        self.uplink: Uplink = build_uplink(
            self.plan, codec.caller_media, APPEND_TEMPLATE, backlog_ms=settings.backlog_ms
        )
        # What may have to be taken back is better not sent long before its time.
        sends_ahead = codec.cuts_reliably and not ears.hears_overlap
        self.downlink: Downlink = build_downlink(
            self.plan,
            AUDIO_MEDIA,
            lead_ms=settings.queue_limit_ms if sends_ahead else settings.lead_ms,
            queue_limit_ms=settings.queue_limit_ms,
            retains=ears.hears_overlap,
        )
        self.tap: Tap = build_tap(self.plan, ears, begun)
        self._is_heard = True
        self._dropped_before = 0
        self._dropped_on_hold = 0
        self._unheard = 0
        """Messages dropped as the caller was on hold."""
        self.uplink.connect_tap(self.tap)
        self.downlink.connect_tap(self.tap)
        self.ledger = PlayoutLedger(
            self.downlink,
            self.plan.offer.format,
            self.plan.model_format,
            link_delay_ms=settings.link_delay_ms,
        )

    @property
    def is_caller_heard(self) -> bool:
        """The model is to hear the caller."""
        return self._is_heard

    def hear_caller(self, is_heard: bool) -> None:
        """Have the model hear the caller, or not; `join` is to follow. What it does not hear is dropped."""
        if is_heard is self._is_heard:
            return
        self._is_heard = is_heard
        if not is_heard:
            self._dropped_before = self.uplink.backlog_dropped
            return
        dropped = self.uplink.backlog_dropped - self._dropped_before
        self._dropped_on_hold += dropped
        self._unheard += dropped + len(self.uplink.release())

    def join(self, carrier_leg: Leg | None, model_leg: Leg | None) -> None:
        """Have what one leg receives go out on the other; what has no way out is kept."""
        if carrier_leg is not None:
            carrier_leg.connect_pump(self.uplink, model_leg if self._is_heard else None)
        if model_leg is not None:
            model_leg.connect_pump(self.downlink, carrier_leg)

    def hear(self, message: bytes, model_leg: Leg | None, now: float) -> None:
        """Take a media message that the native path did not meet on the carrier's socket."""
        passed_on = self.uplink.feed(message, now)
        if passed_on is not None:
            if not self._is_heard:
                self._unheard += 1
            elif model_leg is not None and model_leg.is_open and not model_leg.is_blocked:
                model_leg.send(passed_on)
            else:
                self.uplink.keep(passed_on)
        if self.tap.on_news is not None and (news := self.tap.take_news()):
            self.tap.on_news(news)

    def reset_caller(self) -> None:
        """The caller's audio begins anew, on another socket."""
        self.uplink.reset()
        self.tap.reset_caller()

    def count_into(self, counters: Counters) -> None:
        """Add what was counted on the way of the audio."""
        counters.note("uplink_messages", self.uplink.messages)
        counters.note("uplink_malformed", self.uplink.malformed)
        counters.note("uplink_bad_audio", self.uplink.bad_audio)
        counters.note("uplink_backlog_dropped", self.uplink.backlog_dropped - self._dropped_on_hold)
        counters.note("uplink_on_hold", self._unheard)
        counters.note("uplink_gaps", self.uplink.gaps)
        counters.note("uplink_repeats", self.uplink.repeats)
        counters.note("downlink_messages", self.downlink.messages)
        counters.note("downlink_bad_audio", self.downlink.bad_audio)
        counters.note("downlink_stale", self.downlink.discarded)
        counters.note("downlink_dropped", self.downlink.dropped)
        counters.note("ears_dropped", self.tap.news_dropped)
        counters.note("detector_faults", self.tap.detector_faults)
