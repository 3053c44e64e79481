"""Rendering for many people: a directory that places sessions, workers that render them, and what starts and heals workers."""
