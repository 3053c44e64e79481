"""The application: session, live loop, window, settings, control server, doctor and command line.
Nothing imports it.
"""
