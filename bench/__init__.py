"""Measures what docs/benchmarks.md says; `make bench` runs everything and writes that page."""
