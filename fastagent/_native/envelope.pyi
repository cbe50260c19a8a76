from typing import Final, Self, final

from typing_extensions import Buffer

__all__ = [
    "DEPTH_MAX",
    "DUPLICATE",
    "FIELDS_MAX",
    "MALFORMED",
    "NO_AUDIO",
    "PATH_MAX",
    "TOO_DEEP",
    "UTF8_ACCEPT",
    "UTF8_REJECT",
    "VALUES_MAX",
    "EnvelopeSpec",
    "Match",
    "ScanError",
    "Scanner",
    "is_utf8",
    "utf8_advance",
]

DEPTH_MAX: Final[int]
PATH_MAX: Final[int]
VALUES_MAX: Final[int]
FIELDS_MAX: Final[int]

MALFORMED: Final[int]
TOO_DEEP: Final[int]
DUPLICATE: Final[int]
NO_AUDIO: Final[int]

UTF8_ACCEPT: Final[int]
UTF8_REJECT: Final[int]

class ScanError(ValueError):
    code: int
    def __init__(self, reason: str, code: int = ...) -> None: ...

@final
class EnvelopeSpec:
    def __new__(
        cls,
        discriminator: tuple[str, ...],
        values: tuple[str, ...],
        audio: tuple[str, ...],
        fields: tuple[tuple[str, ...], ...] = (),
    ) -> Self: ...

@final
class Match:
    def __init__(self, *args: object, **kwargs: object) -> None: ...
    @property
    def value(self) -> str: ...
    @property
    def audio(self) -> bytes: ...
    @property
    def fields(self) -> tuple[str | int | float | bool | bytes | None, ...]: ...

@final
class Scanner:
    def __new__(
        cls,
        discriminator: tuple[str, ...],
        values: tuple[str, ...],
        audio: tuple[str, ...],
        fields: tuple[tuple[str, ...], ...] = (),
    ) -> Self: ...
    def scan(self, message: Buffer, /) -> Match | None: ...

def utf8_advance(state: int, data: Buffer, /) -> int: ...
def is_utf8(data: Buffer, /) -> bool: ...
