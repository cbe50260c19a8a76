"""Compiled kernels: their stubs, their shared Cython faces, and the built modules."""
