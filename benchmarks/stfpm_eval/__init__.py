"""Accuracy of a deployed model file on labelled data sets."""
