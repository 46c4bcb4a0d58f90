"""From logits to a row per image: counts, ratios and the empty-mask rule."""
