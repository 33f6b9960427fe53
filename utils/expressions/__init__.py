"""Small computations that a person writes: numbers, texts, truth values. `evaluating.py` has the call."""
