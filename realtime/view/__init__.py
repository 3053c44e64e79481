"""What people look at: the composed picture, and what is written over it."""
