"""What a run's trained networks make of other images, and how they leave the project."""
