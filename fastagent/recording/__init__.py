"""Recordings of calls: stereo WAV at 8 kHz, left the caller, right the bot, both on one sample clock.

`track` joins the native timeline with a recording, `writer` has the one thread that touches the disk,
`wav_file` is a file that can be read while it grows, `repair` takes care of what a crash left and of age,
`export` makes FLAC and Opus of finished files.

PCM16 (32 kB/s) is the default because Python's own ``wave`` module, soundfile, ffmpeg and sox all read it, at
any moment of its life. Mu-law takes half of that and loses nothing on a mu-law line, but ``wave`` refuses it
("unknown format: 7").
"""

from fastagent.recording.track import CallTrack
from fastagent.recording.writer import Recording, RecordingLimits, RecordingWriter, StopReason

__all__ = ["CallTrack", "Recording", "RecordingLimits", "RecordingWriter", "StopReason"]
