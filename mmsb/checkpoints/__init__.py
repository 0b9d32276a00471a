"""Checkpoints: growing plain ResNet weights into SB-ResNet, safe loading."""

from .growing import GrowthReport, grow_state_dict, starts_with_spatial_bias

__all__ = ['GrowthReport', 'grow_state_dict', 'starts_with_spatial_bias']
