"""The barge-in gate in numpy: slow, in float64, arrays instead of loops."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Levels = NDArray[np.float64]
Verdict = Literal["quiet", "echo", "speech", "confirmed"]

BANDS, LAGS, HISTORY = 10, 32, 40
LEAST_DB = 30.0
EARLY, LATE = 1, 3
WHOLE_RUN = LAGS + LATE
QUIETEST_DB = -20.0


def decibels(power: Levels) -> Levels:
    return np.asarray(10 * np.log10(np.maximum(power, 1.0)))


class Gate:
    """Takes band powers (mean squares of int16 samples) of both directions, frame by frame."""

    def __init__(self, confirm_ms: int = 60) -> None:
        self.confirm_ms = confirm_ms
        self.played = np.full((HISTORY, BANDS), LEAST_DB)
        self.shape = np.full((LAGS, BANDS), QUIETEST_DB)
        self.played_mean = np.zeros(BANDS)
        self.heard_mean = np.zeros(BANDS)
        self.products = np.zeros(LAGS)
        self.sums = np.zeros(LAGS)
        self.squares = np.zeros(LAGS)
        self.heard_sum = self.heard_square = self.weight = 0.0
        self.far = np.zeros(LAGS)
        self.far_weight = 0.0
        self.smooth = np.full(BANDS, 25.0)
        self.floors = np.full((2, BANDS), 25.0)
        self.floor_age = 0
        self.leak = np.full(BANDS, -2.0)
        self.ratios: list[list[float]] = [[] for _ in range(BANDS)]
        self.peak_before = np.full(BANDS, -2.0)
        self.stretches = np.zeros(BANDS, dtype=int)
        self.played_frames = self.heard_frames = self.audible_run = 0
        self.since_audible = 65535
        self.learn_hold = self.alike_run = 0
        self.lag: int | None = None
        self.alike_lag = -1
        self.rising = self.onset = self.last_active = self.pause = self.evidence_ms = 0
        self.sure = self.confirmed = False

    @property
    def floor(self) -> Levels:
        return np.asarray(self.floors.min(axis=0) + 3.0)

    @property
    def bot_audible(self) -> bool:
        return self.since_audible <= (WHOLE_RUN if self.lag is None else self.lag + LATE) + 10

    def process(self, caller: Levels, bot: Levels, probability: float) -> Verdict:
        heard = decibels(caller)
        self.follow_floor(heard)
        self.remember(bot)
        clear = int((heard > self.floor + 6).sum())
        if not self.bot_audible:
            self.alike_run = 0
            voiced = probability >= 0.2 and (self.sure or probability >= 0.5)
            return self.follow_utterance(voiced, clear >= 2, probability)
        if self.heard_frames == 0:
            self.heard_mean = self.played_mean.copy()
        first = 0 if self.lag is None else max(self.lag - EARLY, 0)
        last = WHOLE_RUN - 1 if self.lag is None else self.lag + LATE
        most = self.played[first : last + 1].max(axis=0)
        widest = self.played[:WHOLE_RUN].max(axis=0)
        above = self.unexplained(heard, most, widest)
        likeness = self.compare(heard, 1.0 if above else 0.15)
        best_lag = int(likeness.argmax()) if likeness.max() > 0 else -1
        best = max(float(likeness.max()), 0.0)
        alike = self.lag is not None and likeness[first : self.lag + EARLY + 1].max() >= 0.72
        if not alike and above >= 2 and best >= 0.65:
            if self.lag is not None and (self.stretches > 1).sum() > BANDS / 2:
                alike = self.unexplained(heard, widest, widest) < 2
            else:
                alike = best >= 0.7
        visible = clear >= 2
        if visible and best >= 0.65 and abs(best_lag - self.alike_lag) <= EARLY:
            self.alike_run += 1
        elif visible or best < 0.65:
            self.alike_run = 0
        if best_lag >= 0:
            self.alike_lag = best_lag
        speech = above >= 2 and probability >= 0.2 and not alike
        verdict = self.follow_utterance(speech, above > 0, probability)
        surely = self.alike_run >= 7
        if above >= 2 and not surely:
            self.learn_hold = 10
        elif self.learn_hold:
            self.learn_hold -= 1
        if surely or not self.learn_hold:
            if visible:
                self.heard_frames += 1
                least = np.maximum(heard, self.floor + 3)
                self.heard_mean += (least - self.heard_mean) / (min(self.heard_frames, 150) + 8)
                self.learn_lag(likeness)
            if surely or self.lag is not None or self.audible_run > WHOLE_RUN:
                self.learn_leak(heard, most, surely)
        return "echo" if verdict == "quiet" and visible else verdict

    def follow_floor(self, heard: Levels) -> None:
        self.smooth += 0.4 * (heard - self.smooth)
        level = np.maximum(self.smooth, 10.0)
        self.floors[0] = np.minimum(self.floors[0], level)
        self.floor_age += 1
        if self.floor_age == 50:
            self.floors = np.stack([level, self.floors[0]])
            self.floor_age = 0

    def remember(self, bot: Levels) -> None:
        now = np.maximum(decibels(bot), LEAST_DB)
        if float(decibels(np.asarray(bot.sum()))) >= 38:
            self.since_audible = 0
            self.played_frames += 1
            self.played_mean += (now - self.played_mean) / min(self.played_frames, 150)
        else:
            self.since_audible += 1
        self.audible_run = 0 if self.since_audible > 16 else self.audible_run + 1
        self.played = np.roll(self.played, 1, axis=0)
        self.played[0] = LEAST_DB + np.minimum(np.floor((now - LEAST_DB) * 4), 255) / 4
        self.shape = np.roll(self.shape, 1, axis=0)
        self.shape[0] = np.maximum(now - self.played_mean, QUIETEST_DB) if self.played_frames else QUIETEST_DB

    def compare(self, heard: Levels, frame_weight: float) -> Levels:
        centred = np.maximum(heard, self.floor + 3) - self.heard_mean
        keep = 0.75
        self.products = keep * self.products + frame_weight * (self.shape @ centred)
        self.sums = keep * self.sums + frame_weight * self.shape.sum(axis=1)
        self.squares = keep * self.squares + frame_weight * (self.shape**2).sum(axis=1)
        self.heard_sum = keep * self.heard_sum + frame_weight * centred.sum()
        self.heard_square = keep * self.heard_square + frame_weight * (centred**2).sum()
        self.weight = keep * self.weight + frame_weight * BANDS
        least = 9.0 * self.weight
        heard_spread = max(self.heard_square - self.heard_sum**2 / self.weight, least)
        spread = np.maximum(self.squares - self.sums**2 / self.weight, least)
        together = self.products - self.sums * self.heard_sum / self.weight
        return np.asarray(together / np.sqrt(spread * heard_spread))

    def learn_lag(self, likeness: Levels) -> None:
        self.far_weight = 0.99 * self.far_weight + 1
        self.far += (likeness - self.far) / self.far_weight
        best = int(self.far.argmax())
        apart = np.abs(np.arange(LAGS) - best) > LATE
        rival = max(float(self.far[apart].max()), 0.0)
        if best == self.lag or self.far_weight < 15 or self.far[best] < max(0.35, rival + 0.08):
            return
        if self.lag is None or abs(best - self.lag) > EARLY:
            self.leak = np.minimum(self.leak + 3, -2.0)
            self.peak_before = self.leak.copy()
            self.ratios = [[] for _ in range(BANDS)]
        self.lag = best

    def learn_leak(self, heard: Levels, most: Levels, surely: bool) -> None:
        for b in range(BANDS):
            floor = self.floor[b]
            hidden = most[b] + self.leak[b] < floor + 3 and heard[b] < floor + 6
            if most[b] <= LEAST_DB + 6 or hidden:
                continue
            ratio = min(max(heard[b], floor) - most[b], 6.0)
            if not surely:
                ratio = min(ratio, self.leak[b] + 3)
            self.ratios[b].append(ratio)
            second = sorted(self.ratios[b])[-2] if len(self.ratios[b]) > 1 else -200.0
            self.leak[b] = max(self.leak[b], second)
            if len(self.ratios[b]) == 32:
                leak = max(second, self.peak_before[b]) if self.stretches[b] else second + 3
                self.leak[b] = min(max(leak, -60.0), 6.0)
                self.peak_before[b] = second
                self.stretches[b] += 1
                self.ratios[b] = []

    def unexplained(self, heard: Levels, around: Levels, widest: Levels) -> int:
        faint = np.minimum(widest + self.leak, self.floor + 10)
        echo = np.maximum(around + self.leak, faint)
        return int((heard > np.maximum(echo + 5, self.floor + 6)).sum())

    def follow_utterance(self, speech: bool, sounding: bool, probability: float) -> Verdict:
        self.rising = min(self.rising + 1, 3) if sounding else 0
        self.onset += self.onset > 0
        if speech:
            self.onset = self.onset or max(self.rising, 1)
            self.pause = 0
            self.last_active = self.onset
            self.sure |= probability >= 0.5
            if self.evidence_ms < self.confirm_ms:
                self.evidence_ms += 20
            self.confirmed |= self.sure and self.evidence_ms >= self.confirm_ms
        elif self.onset:
            self.pause += 1
            self.evidence_ms = max(self.evidence_ms - 10, 0)
            if self.pause > 10:
                self.onset = self.last_active = self.evidence_ms = self.pause = 0
                self.sure = self.confirmed = False
        if self.confirmed:
            return "confirmed"
        return "speech" if speech else "quiet"
