"""Names in messages: short lists, and the nearest of what there is."""

import difflib
from collections.abc import Iterable


def listed(names: Iterable[str], most: int = 8) -> str:
    """Join names with commas, the first few of a long list."""
    names = list(map(str, names))
    more = len(names) - most
    return ', '.join(names[:most]) + (f' and {more} more' if more > 0 else '')


def nearest(name: str, names: Iterable[str], cutoff: float = 0.7) -> str | None:
    """Return the most similar of some names, whatever their case, or None."""
    lower = {other.lower(): other for other in names}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=cutoff)
    return lower[close[0]] if close else None
