"""Faults injected into running calls, and what becomes of them and of the calls beside them."""
