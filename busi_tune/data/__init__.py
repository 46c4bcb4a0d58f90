"""Images, masks and the splits of them; numpy and pillow, torch in batches and augment only."""
