"""The studio: a page that shows and does everything a live session can, and the server behind it.

State lives in the session. A page asks for it and posts what is to be done, so that two browsers
show the same, a reload loses nothing, and a page that is closed stops nothing.
"""
