"""Remote rendering: motion goes to another machine, video comes back."""
