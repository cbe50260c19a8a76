"""Place: where code stands, for logs: names of functions, files and lines, never values."""

from types import FrameType

__all__ = ["place_of_error", "place_of_frame"]


def place_of_error(error: BaseException) -> str:
    """Tell an error's kind, and where it was raised. Its text may quote the caller and is left out."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    code = trace.tb_frame.f_code
    return f"{type(error).__name__} in {code.co_qualname} ({code.co_filename}:{trace.tb_lineno})"


def place_of_frame(frame: FrameType) -> str:
    """Tell where a running frame stands."""
    return f"{frame.f_code.co_qualname} ({frame.f_code.co_filename}:{frame.f_lineno})"
