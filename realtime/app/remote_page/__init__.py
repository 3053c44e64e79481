"""The page of `livepuppet serve`: a browser sends its camera, this machine reads the face, renders, and sends pictures back."""
