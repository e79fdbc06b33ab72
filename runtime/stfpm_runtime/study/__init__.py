"""A measurement system analysis of an inspection: agreement of decisions, and repeatability of scores.

Source of all formulas and bounds: AIAG, Measurement Systems Analysis, 4th edition, 2010.
"""
