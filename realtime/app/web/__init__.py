"""A static site that moves a picture in the browser itself: the files of the page, and what writes them beside a model.

The page's modules are plain JavaScript with types in comments, which `tsc --noEmit` checks: what is read here is what
the browser runs, and nobody needs a build to change it.
"""
