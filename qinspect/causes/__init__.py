"""One file for each cause of a difference, or for a family of them."""
