"""How another machine's clock stands to ours."""

from __future__ import annotations

import math
from collections import deque

#: Exchanges of which the quickest counts: what waited on the way is not symmetric.
WINDOW = 16


class ClockOffset:
    """The exchange of NTP (RFC 5905, section 8): four time stamps, two of either clock.

    Attributes:
        offset: what the other clock shows more than ours, in seconds; nan before the first exchange. It is off by at most half
            of `round_trip`.
        round_trip: seconds on the network, there and back, of the quickest of the last exchanges.
    """

    def __init__(self) -> None:
        self.offset, self.round_trip = math.nan, math.nan
        self._exchanges: deque[tuple[float, float]] = deque(maxlen=WINDOW)

    def add(self, sent: float, received: float, answered: float, arrived: float) -> None:
        """Count one exchange.

        Args:
            sent, arrived: of our request and its answer, in seconds of our clock.
            received, answered: the same over there, in seconds of the other clock.
        """
        round_trip = (arrived - sent) - (answered - received)
        if not (0 <= round_trip < math.inf):
            return
        offset = ((received - sent) + (answered - arrived)) / 2
        self._exchanges.append((round_trip, offset))
        self.round_trip, self.offset = min(self._exchanges)
