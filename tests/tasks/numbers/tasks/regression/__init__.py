"""Answers that are learned from questions."""
