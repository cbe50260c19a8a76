"""FLAC and Opus of finished recordings, by libsndfile (the ``export`` extra).

Encoding takes processor time (for Opus about a hundredth of the audio's duration) and waits for the disk: run
it in a process or a thread of its own, never on the loop that carries calls.
"""

import os
from pathlib import Path
from typing import Literal

from fastagent.errors import AudioError, ConfigurationError
from fastagent.recording.wav_file import FILE_MODE

__all__ = ["FORMATS", "ExportFormat", "export"]

ExportFormat = Literal["flac", "opus"]
FORMATS: dict[str, tuple[str, str]] = {"flac": ("FLAC", "PCM_16"), "opus": ("OGG", "OPUS")}
"""Suffix -> libsndfile's container and encoding. FLAC loses nothing, Opus takes about a sixth of PCM16."""
BLOCK_FRAMES = 80_000
"""Read and encoded at a time: ten seconds."""


def export(path: str | Path, format: ExportFormat, *, into: str | Path | None = None) -> Path:
    """Encode a recording and give the new file's path: the same name with another suffix.

    The file appears when it is complete, with mode 0600, and replaces one of the same name. Marks are not
    carried over.

    Args:
        path: a WAV file, finished.
        into: another directory for the result.

    Raises:
        ConfigurationError: soundfile is not installed.
        AudioError: the file is no audio that libsndfile can read, or it cannot encode the format.
        OSError: a file cannot be read or written.
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError: installed, but without its library
        raise ConfigurationError("exports need soundfile: pip install 'fastagent[export]'") from error
    source = Path(path)
    target = (source.parent if into is None else Path(into)) / f"{source.stem}.{format}"
    part = target.with_name(target.name + ".part")
    container, encoding = FORMATS[format]
    with source.open("rb"):
        pass  # a missing file is an OSError with its own words
    fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        with (
            soundfile.SoundFile(source) as wav,
            soundfile.SoundFile(
                part, "w", wav.samplerate, wav.channels, format=container, subtype=encoding
            ) as encoded,
        ):
            for block in wav.blocks(BLOCK_FRAMES, dtype="int16"):
                encoded.write(block)
        os.fsync(fd)
        os.rename(part, target)
    except soundfile.LibsndfileError as error:
        part.unlink(missing_ok=True)
        raise AudioError(f"{source.name}: {error.error_string}") from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    return target
