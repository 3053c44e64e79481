"""Set the moved square into the finished picture: sharp, and on the background that is wanted."""
