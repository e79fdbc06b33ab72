"""Experiments that train models and compare their accuracy on products whose real defects are labelled."""
