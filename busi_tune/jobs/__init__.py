"""What the commands do once their input is checked: search, cross-validation, training."""
