"""A running call's native counters, read from beside it: what came since the last look.

The kernels count in plain integers and nothing here runs per frame. Whoever holds the gauge looks now and
then, and once more when the call is over.
"""

from collections import deque
from collections.abc import Callable, Sequence
from operator import add, sub
from typing import NamedTuple

from fastagent._native.listener import Leg
from fastagent.call.media import CallMedia
from fastagent.stats import TimeClasses

__all__ = ["DROP_CAUSES", "CallGauge", "Reading"]

DROP_CAUSES = (
    "model_absent",
    "caller_malformed",
    "caller_bad_audio",
    "bot_bad_audio",
    "bot_stale",
    "bot_queue_full",
    "ears_busy",
    "peer_not_reading",
)
"""Why audio, or a finding of the ears, was dropped; in the order of `Reading.drops`."""

LAG_LOOKS = 16
"""Looks that the caller's least lag is taken from: a line whose clock runs slow is not taken for a late
one."""
FRAME_S = 0.02
"""What carriers put in a message; for audio that waits for the model, which is counted in messages."""


class Reading(NamedTuple):
    """What came since the last look."""

    drops: Sequence[int]
    ingress: Sequence[int]
    """Frames of the carrier by time in the bridge, to the append: classes as in `TimeClasses`."""
    egress: Sequence[int]
    """Frames of the model, likewise."""
    caller_age_s: float | None
    """How old the caller's newest audio was as it went on; None while none comes."""
    bot_age_s: float | None
    """How long the bot's newest audio waits to be sent; None while none waits."""


class CallGauge:
    """Reads one call.

    Args:
        carrier: the name of who brought the call.
        agent_id: who answers.
        legs: gives the carrier's and the model's leg, as far as there are any.
        carrier_times: frame times of the carrier's legs that are closed.
        model_times: those of the model's.
    """

    def __init__(
        self,
        media: CallMedia,
        *,
        carrier: str,
        agent_id: str,
        legs: Callable[[], tuple[Leg | None, Leg | None]],
        carrier_times: TimeClasses,
        model_times: TimeClasses,
    ) -> None:
        self.carrier = carrier
        self.agent_id = agent_id
        self._media = media
        self._legs = legs
        self._closed = (carrier_times, model_times)
        self._drops: Sequence[int] = (0,) * len(DROP_CAUSES)
        self._times: list[Sequence[int]] = [(0,) * 32, (0,) * 32]
        self._lags: deque[float] = deque(maxlen=LAG_LOOKS)
        self._samples = 0
        self._rate = media.plan.offer.format.sample_rate
        self._not_sent_before = 0

    def caller_restarted(self) -> None:
        """The caller's audio begins anew: its clock tells nothing of the time before."""
        self._lags.clear()

    def leg_closed(self, leg: Leg) -> None:
        """What a leg could not send is counted on, after it."""
        self._not_sent_before += leg.audio_not_sent

    def read(self, now: float) -> Reading:
        """What came since the last look."""
        legs = self._legs()
        drops, self._drops = self._drops, self._read_drops(legs)
        ingress, egress = self._read_times(0, legs[0]), self._read_times(1, legs[1])
        return Reading(
            # A pump that was reset counts from nought.
            [new - old if new >= old else new for new, old in zip(self._drops, drops, strict=True)],
            ingress,
            egress,
            self._caller_age_s(now),
            self._bot_age_s(),
        )

    def _read_drops(self, legs: tuple[Leg | None, Leg | None]) -> Sequence[int]:
        uplink, downlink = self._media.uplink, self._media.downlink
        not_sent = self._not_sent_before + sum(leg.audio_not_sent for leg in legs if leg is not None)
        return (
            uplink.backlog_dropped,
            uplink.malformed,
            uplink.bad_audio,
            downlink.bad_audio,
            downlink.discarded,
            downlink.dropped,
            self._media.tap.news_dropped,
            not_sent,
        )

    def _read_times(self, which: int, leg: Leg | None) -> Sequence[int]:
        before, counts = self._times[which], self._closed[which].counts
        after = list(counts) if leg is None else list(map(add, counts, leg.frame_times))
        self._times[which] = after
        return list(map(sub, after, before))

    def _caller_age_s(self, now: float) -> float | None:
        samples = self._media.uplink.samples_in
        if samples == self._samples:
            self._lags.clear()
            return None
        self._samples = samples
        lag_s = now - samples / self._rate
        self._lags.append(lag_s)
        return lag_s - min(self._lags) + FRAME_S * self._media.uplink.backlog_messages

    def _bot_age_s(self) -> float | None:
        queued = self._media.downlink.queued
        return queued / self._rate if queued else None
