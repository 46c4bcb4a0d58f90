"""Storage on s3://: a run and its trainings as objects that are there whole or not at all."""
