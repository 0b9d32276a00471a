"""Argument checks that several layers share."""

from mmsb.utils.errors import UserError


def check_divides(layer: str, channels: int, groups: int) -> None:
    """Raise a UserError unless the channels divide into equal groups."""
    if groups < 1 or channels % groups:
        raise UserError(f'{layer}: {channels} channels do not divide into {groups} groups')
