"""Microbenchmarks of this device: matrix products, attention, memory, launches, collectives and the host link.

``measure.measure`` times them through PyTorch, imported only there; ``results`` writes and reads the times; ``fit.fit``
turns them into efficiencies of this project against a data sheet.
"""
