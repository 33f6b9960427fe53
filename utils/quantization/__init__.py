"""Numbers ⇄ the bytes that weight files hold instead of them."""
