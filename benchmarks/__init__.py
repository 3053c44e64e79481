"""Measurements of speed. Every speed figure of the README is printed from here."""
