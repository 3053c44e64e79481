"""Procedural puppets: identities, motions, the renderer that draws them with exact truth, and pools
of drawings.
"""
