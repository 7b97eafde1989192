"""Which matrices float16 holds."""

from __future__ import annotations

# Range of a matrix's largest absolute value: above is infinity, far below too few bits remain.
MIN_PEAK, MAX_PEAK = 2.0**-8, 65504.0


def fits_float16(peak: float) -> bool:
    """Whether float16 holds a matrix with this largest absolute value; NaN does not fit."""
    return peak == 0 or MIN_PEAK <= peak <= MAX_PEAK
