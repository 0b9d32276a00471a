"""What the constructors of several layers check."""

from mmsb.utils.errors import UserError


def check_divides(layer: str, channels: int, groups: int) -> None:
    """Refuses channels that do not fall into equal groups."""
    if groups < 1 or channels % groups:
        raise UserError(f'{layer}: {channels} channels do not divide into {groups} groups')
