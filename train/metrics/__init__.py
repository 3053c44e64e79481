"""Metrics: the papers' L1, AKD, MKR, AED and FID; responses on puppets; figures on clips of real
faces.
"""
