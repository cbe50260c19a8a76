"""The recorder's timeline the slow way: every sample of both channels in a list, as long as the call lasts.

Samples are what the file holds of them: plain integers, 0 for silence. Only what has left is out of reach.
"""

from bisect import bisect

RATE = 8000
FRAME = 160
RING = 4000
BLOCK = 3200
BOT_SLACK = 480
STEP = 800
LAG_MAX = 1600
LAG_WINDOW = 8000
PROOF = 8000


class Timeline:
    """Fed with lists of samples; `out` holds pairs of samples, left the caller, right the bot."""

    def __init__(self) -> None:
        self.wall = 0
        self.caller: list[int] = []
        self.bot: dict[int, int] = {}
        self.out: list[tuple[int, int]] = []
        self.padded = self.dropped = self.misplaced = 0
        self.is_placed = self.is_paused = self.is_doubted = self.is_flushed = False
        self.audio_from = self.owed = self.proven = 0
        self.silent_from = self.silent_until = 0
        self.lags: list[tuple[int, int]] = []
        self.window_start = 0

    @property
    def origin(self) -> int:
        return len(self.out)

    def advance(self, wall: int) -> None:
        if not self.is_flushed:
            self.wall = max(self.wall, wall)
        self.take()

    def feed_caller(self, samples: list[int], wall: int) -> None:
        self.advance(wall)
        if not samples or self.is_flushed:
            return
        if not self.is_placed:
            missing = max(0, self.wall - len(samples) - len(self.caller))
            self.caller += [0] * missing
            self.owed += missing
            self.padded += missing
            self.audio_from = len(self.caller)
            self.is_placed = True
            self.proven = 0
            self.restart_window()
        surplus = len(self.caller) + len(samples) - self.wall
        if surplus > (FRAME if self.owed else LAG_MAX):
            samples = self.drop_oldest(surplus, samples)
        spoken_by = min(len(self.caller), self.wall - len(samples))
        for i, sample in enumerate(samples):
            is_of_pause = self.silent_until > 0 and spoken_by + i < self.silent_until
            self.caller.append(0 if self.is_paused or self.is_doubted or is_of_pause else sample)
        self.proven += len(samples)
        if self.proven >= PROOF:
            self.owed = 0
            self.is_doubted = False
        self.mend_lag()
        self.take()

    def drop_oldest(self, surplus: int, samples: list[int]) -> list[int]:
        stock = self.caller[self.origin :]
        marked = [(at >= self.audio_from, value) for at, value in enumerate(stock, self.origin)]
        marked += [(True, value) for value in samples]
        gone, kept = marked[:surplus], marked[surplus:]
        lost = sum(is_audio for is_audio, _ in gone)
        self.dropped += lost
        self.padded -= len(gone) - lost
        self.owed = max(0, self.owed - surplus)
        self.audio_from = max(self.origin, self.audio_from - min(surplus, len(stock)))
        self.proven = 0
        in_ring = max(0, len(stock) - surplus)
        values = [value for _, value in kept]
        wiped = max(0, min(in_ring, self.silent_until - self.origin))
        self.caller[self.origin :] = [0] * wiped + values[wiped:in_ring]
        return values[in_ring:]

    def restart_window(self) -> None:
        self.window_start = self.wall
        self.lags = []

    def mend_lag(self) -> None:
        self.lags.append((self.wall, self.wall - len(self.caller)))
        if self.wall - self.window_start >= LAG_WINDOW:
            lag = min(lag for _, lag in self.lags)
            if lag > LAG_MAX:
                self.caller += [0] * lag
                self.padded += lag
            self.restart_window()

    def feed_bot(self, samples: list[int], position: int) -> None:
        if self.is_flushed:
            return
        for at, sample in enumerate(samples, position):
            if not self.origin <= at < self.origin + RING:
                self.misplaced += 1
                continue
            pauses = [
                self.silent_from,
                1 << 62 if self.is_paused else max(self.silent_from, self.silent_until),
            ]
            self.bot[at] = 0 if bisect(pauses, at) == 1 else sample

    def take(self) -> None:
        while self.take_once():
            pass

    def take_once(self) -> bool:
        if self.is_flushed:
            self.give(max(len(self.caller), max(self.bot, default=-1) + 1) - self.origin)
            return False
        behind_wall = self.wall - BOT_SLACK - self.origin
        ahead = max(self.wall, len(self.caller)) + FRAME - RING - self.origin
        step = max(STEP, ahead)
        is_held = self.owed > 0 and self.audio_from > self.origin
        if ahead > 0 and len(self.caller) == self.origin:
            pad = min(step, behind_wall)
            self.is_doubted = self.is_doubted or len(self.caller) < self.silent_until
            self.caller += [0] * pad
            self.owed += pad
            self.padded += pad
            self.is_placed = False
            return self.give(min(pad, RING))
        complete = min(len(self.caller) - self.origin, behind_wall)
        if ahead > 0:
            return self.give(min(complete, step, RING) if is_held else min(complete, RING))
        return self.give(min(complete, RING)) if complete >= BLOCK and not is_held else False

    def give(self, count: int) -> bool:
        for at in range(self.origin, self.origin + count):
            self.out.append((self.caller[at] if at < len(self.caller) else 0, self.bot.pop(at, 0)))
        return count > 0

    def pause(self, wall: int) -> None:
        self.wall = max(self.wall, wall)
        if not self.is_paused:
            self.is_paused = True
            if self.silent_until <= self.origin:
                self.silent_from = self.wall

    def resume(self, wall: int) -> None:
        self.wall = max(self.wall, wall)
        if self.is_paused:
            self.is_paused = False
            self.silent_until = self.wall
            if self.owed:
                self.is_doubted = True
                self.proven = 0

    def flush(self, wall: int) -> None:
        self.wall = max(self.wall, wall)
        self.is_flushed = True
        self.take()
