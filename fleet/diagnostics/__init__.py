"""Textbook drift tests beside the detector: for those who must use one, and to show what they would have said.

contract      the seam `lineside.drift_tests`            normal       what they compare with, on independent counts
distances     KL, PSI, JS, KS, chi-square, by blocks     sequential   Page-Hinkley, ADWIN
choice        tests by name, and how often each is wrong   of_device   all of them on one device's last day
as_detector   a test in the place of the detector
"""
