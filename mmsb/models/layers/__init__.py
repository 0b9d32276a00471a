from .bat import BATBlock
from .gather_excite import GatherExcite
from .non_local import NonLocalBlock
from .selective_kernel import SelectiveKernel
from .spatial_bias import SpatialBias
from .squeeze_excitation import SqueezeExcitation
from .srm import StyleRecalibration

__all__ = [
    'BATBlock',
    'GatherExcite',
    'NonLocalBlock',
    'SelectiveKernel',
    'SpatialBias',
    'SqueezeExcitation',
    'StyleRecalibration',
]
