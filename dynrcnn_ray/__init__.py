"""Dynamic R-CNN (Zhang et al., ECCV 2020) on Ray: training dynamics that can be reproduced, ablated and scaled."""

__version__ = "0.1.0"
