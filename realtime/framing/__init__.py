"""Which square of the driving picture the model sees."""
