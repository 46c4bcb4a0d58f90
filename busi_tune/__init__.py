"""Hyperparameter search and cross-validation for breast-ultrasound tumour segmentation."""

__version__ = "0.1.0"
