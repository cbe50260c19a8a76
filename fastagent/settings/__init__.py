"""Settings: one frozen object, read once at start, passed down as values.

`values` holds the fields and says what cannot work; `sources` reads options, variables and the file; `review`
tells where each value came from and which are not safe.
"""

from fastagent.settings.sources import is_verifying
from fastagent.settings.values import LOCAL_REALTIME, PUBLIC_REALTIME_URL, Settings

__all__ = ["LOCAL_REALTIME", "PUBLIC_REALTIME_URL", "Settings", "is_verifying"]
