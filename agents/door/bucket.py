"""A token bucket, the limit on how much of something may come in a second."""

from __future__ import annotations


class TokenBucket:
    """Holds at most `burst` tokens, and gains `rate_per_s` of them in a second; whoever takes more than there are gets none."""

    def __init__(self, rate_per_s: float, burst: float) -> None:
        """Make a full bucket."""
        self._rate_per_s, self._burst = rate_per_s, burst
        self._tokens, self._at_s = burst, 0.0

    def has(self, amount: float, now_s: float) -> bool:
        """Return whether so many tokens are there at a time by the monotonic clock."""
        self._tokens = min(self._burst, self._tokens + max(0.0, now_s - self._at_s) * self._rate_per_s)
        self._at_s = now_s
        return amount <= self._tokens

    def take(self, amount: float) -> None:
        """Take tokens, even ones that are still to come."""
        self._tokens -= amount
