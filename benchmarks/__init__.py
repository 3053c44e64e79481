"""Measurements of speed. Every figure of docs/speed.md is printed from here."""
