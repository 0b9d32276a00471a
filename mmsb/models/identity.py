"""Values at which a block that is added to a trained network changes nothing at first.

A residual block is the identity if its branch ends in zeros. A gate, ``x * sigmoid(z)``, cannot be
set to one: the sigmoid reaches it only where it has no gradient, and would stay there. So its z
starts at 0, as usual, which makes the gate exactly 1/2; growing then doubles the norm before it.
Both are powers of two, so that no value is rounded, and every gradient flows.

A branch that ends in a ReLU, as BAT's, has no such start: where it is zero, it learns nothing.

These values are for growing only. A network that is trained from random weights has each block's
own initialization.
"""

from dataclasses import dataclass

from mmcv.cnn import ContextBlock, NonLocal2d
from mmcv.cnn.bricks import GeneralizedAttention
from torch import nn


@dataclass(frozen=True)
class IdentityStart:
    """What makes a block a multiple of the identity.

    Attributes:
        values: Name of each parameter that must be set, and its value; others may have any.
        factor: The multiple, 1 for the identity itself.
    """

    values: dict[str, float]
    factor: float = 1.0


def identity_start(block: nn.Module) -> IdentityStart | None:
    """Return what makes a block start as the identity.

    Args:
        block: The block: one of ours, or of another project, with an attribute ``identity_start``;
            or mmcv's ``ContextBlock``, ``NonLocal2d`` or ``GeneralizedAttention``.

    Returns:
        None if it is not known.
    """
    if isinstance(block, ContextBlock):
        adds, gates = block.channel_add_conv is not None, block.channel_mul_conv is not None
        names = ['channel_add_conv'] * adds + ['channel_mul_conv'] * gates
        values = {f'{name}.3.{tensor}': 0.0 for name in names for tensor in ('weight', 'bias')}
        return IdentityStart(values, 0.5 if gates else 1.0)
    if isinstance(block, NonLocal2d):
        last = block.conv_out.norm_name if block.conv_out.with_norm else 'conv'
        return IdentityStart({f'conv_out.{last}.{tensor}': 0.0 for tensor in ('weight', 'bias')})
    if isinstance(block, GeneralizedAttention):
        return IdentityStart({'gamma': 0.0})
    return getattr(block, 'identity_start', None)
