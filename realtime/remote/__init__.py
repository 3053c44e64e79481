"""Another machine draws: numbers go there, pictures come back."""
