from .bat import BATBlock
from .context_mixing import ContextMixing
from .coordinate_attention import CoordinateAttention
from .efficient_attention import EfficientAttention
from .gather_excite import GatherExcite
from .global_filter import GlobalFilter
from .large_kernel import LargeKernelBlock
from .non_local import NonLocalBlock
from .selective_kernel import SelectiveKernel
from .spatial_bias import SpatialBias
from .squeeze_excitation import SqueezeExcitation
from .srm import StyleRecalibration

__all__ = [
    'BATBlock',
    'ContextMixing',
    'CoordinateAttention',
    'EfficientAttention',
    'GatherExcite',
    'GlobalFilter',
    'LargeKernelBlock',
    'NonLocalBlock',
    'SelectiveKernel',
    'SpatialBias',
    'SqueezeExcitation',
    'StyleRecalibration',
]
