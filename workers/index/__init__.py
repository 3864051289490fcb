"""Vectors and payloads: one interface, two engines."""
