"""Heterogeneous collaborative perception: agents with different sensors share features, a fusion node finds the vehicles."""

__version__ = "0.1.0"
