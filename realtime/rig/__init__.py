"""The avatar's rig: eyes, lids, mouth and teeth cut out once as layers, and moved by numbers. No network draws them.

    contours = find_contours(picture, landmarks)           once per avatar: where the edges are, and how sure that is
    eyes, mouth = Eyes(picture, contours), Mouth(picture, contours)     once: layers at the picture's resolution
    patches = eyes.draw(amounts) + mouth.draw(amounts)     per frame: small pictures with alpha, for `paste`

`amounts` is a float32 vector in the order of `amounts.NAMES`. All zeros draw nothing: the picture stays what it is, to
the last bit. A part whose contours are not sure draws nothing either.
"""
